"""Export; with it comes what keeps the libraries that it imports quiet, before any of them."""

import rsna_lumbar.runtime  # noqa: F401

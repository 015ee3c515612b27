"""Export. Importing the runtime first switches off the telemetry of the libraries used here."""

import rsna_lumbar.runtime  # noqa: F401

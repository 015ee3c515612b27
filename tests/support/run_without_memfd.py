"""``rsna-run`` as on a system that has no ``memfd_create``, or forbids it."""

from __future__ import annotations

import os

from rsna_lumbar.runtime.cli import main

if __name__ == "__main__":
    del os.memfd_create
    main()

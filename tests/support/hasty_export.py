"""``rsna-export`` that takes two seconds of silence for a hang, once a builder is at work.

Not before: a busy machine may take longer to start the builder.
"""

from __future__ import annotations

import os
from typing import Any

import click

from rsna_lumbar.export.cli import main
from rsna_lumbar.export.formats import builder_process

SHORT_S = 2.0
AT_WORK = "tensorrt-rtx fp32: Timing"

if __name__ == "__main__":
    echo = click.echo

    def echo_and_hurry(message: object = None, **options: Any) -> None:
        echo(message, **options)
        if os.environ["BUILDER_ENDS"] == "hang" and message == AT_WORK:
            builder_process.SILENCE_S = SHORT_S

    click.echo = echo_and_hurry
    main()

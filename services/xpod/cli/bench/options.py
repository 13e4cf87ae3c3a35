"""The options that several measurements share.

Knows: names, types and help texts.
Does not know: what a measurement does with a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

BenchModelOption = Annotated[
    Path | None,
    Option(
        "--model",
        envvar="XPOD_MODEL",
        metavar="DIR",
        show_default=False,
        help="Hugging Face model directory (default: that of xpod bench make-model, made where it is missing).",
    ),
]
ResultsOption = Annotated[
    Path | None,
    Option(
        "--results",
        envvar="XPOD_RESULTS",
        metavar="DIR",
        show_default=False,
        help="Write it there as a file too.",
    ),
]

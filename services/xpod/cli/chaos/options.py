"""Options that the commands of `xpod chaos` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

MinutesOption = Annotated[
    float, Option("--minutes", envvar="XPOD_MINUTES", min=0.0, help="Under load for so long.")
]
StreamsOption = Annotated[
    int, Option("--streams", envvar="XPOD_STREAMS", min=1, help="Streams in flight at any time.")
]
SeedOption = Annotated[int, Option("--seed", envvar="XPOD_SEED", help="Of requests, victims and moments.")]
ChaosDataOption = Annotated[
    Path | None,
    Option("--data", envvar="XPOD_DATA", help="Hit the pod that runs here; where none runs, one of its own."),
]
ComposeOption = Annotated[
    Path | None,
    Option(
        "--compose",
        envvar="XPOD_COMPOSE",
        metavar="DIR|FILE",
        help="Hit the containers of docker compose there.",
    ),
]

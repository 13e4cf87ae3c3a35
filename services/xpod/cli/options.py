"""The options that several commands share, each with its variable.

Knows: names, types, ranges and help texts.
Does not know: what a command does with a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

Dtype = Literal["auto", "bf16", "fp32"]
Device = Literal["cpu", "cuda"]
DEFAULT_DATA = Path(".xpod")
DEFAULT_MODEL = "demo"

DataOption = Annotated[
    Path,
    Option(
        "--data", envvar="XPOD_DATA", help="Directory of the pod: state, logs, JetStream, MemPool's disk."
    ),
]
UrlOption = Annotated[
    str, Option("--url", envvar="XPOD_URL", help="A router of a pod elsewhere (with commas: several).")
]
ModelOption = Annotated[
    str, Option("--model", envvar="XPOD_MODEL", metavar="DIR|demo", help="Hugging Face model directory.")
]
DtypeOption = Annotated[Dtype, Option("--dtype", envvar="XPOD_DTYPE", help="Type of the weights in use.")]
DeviceOption = Annotated[Device, Option("--device", envvar="XPOD_DEVICE", help="Where models are computed.")]
JsonOption = Annotated[bool, Option("--json", envvar="XPOD_JSON", help="Print one JSON object.")]
MaxTokensOption = Annotated[
    int, Option("--max-tokens", envvar="XPOD_MAX_TOKENS", min=1, help="Generate at most so many tokens.")
]
TemperatureOption = Annotated[
    float | None,
    Option(
        "--temperature",
        envvar="XPOD_TEMPERATURE",
        min=0.0,
        max=2.0,
        help="0 takes the likeliest token (default: 1).",
    ),
]
TopPOption = Annotated[
    float | None,
    Option("--top-p", envvar="XPOD_TOP_P", min=0.0, max=1.0, help="Draw from this much probability."),
]
SeedOption = Annotated[
    int | None,
    Option("--seed", envvar="XPOD_SEED", help="The same seed gives the same answer, token for token."),
]
StopOption = Annotated[
    list[str] | None,
    Option("--stop", envvar="XPOD_STOP", metavar="TEXT", help="End before this text; may be repeated."),
]


def split_urls(urls: str) -> list[str]:
    """The URLs in a text with commas, without slashes at their ends."""
    return [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]

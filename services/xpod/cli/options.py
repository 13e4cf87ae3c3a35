"""The options that several commands share, each with its variable.

Knows: names, types, ranges and help texts.
Does not know: what a command does with a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from xpod.cli.reuse import Caching, Routing

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
RoutingOption = Annotated[
    Routing,
    Option(
        "--routing",
        envvar="XPOD_ROUTING",
        metavar="NAME",
        help="How routers choose who gets a request: prompt-tree, round-robin, session or least-load.",
    ),
]
CachingOption = Annotated[
    Caching,
    Option(
        "--caching",
        envvar="XPOD_CACHING",
        metavar="NAME",
        help="Whose blocks later prompts find: basic (none), prefill, decode (prefill's at decode too) or full.",
    ),
]
MempoolBytesOption = Annotated[
    str,
    Option(
        "--mempool-bytes",
        envvar="XPOD_MEMPOOL_BYTES",
        metavar="SIZE",
        help="Memory for blocks in each MemPool node; K, M and G are powers of 1024.",
    ),
]
MempoolDiskBytesOption = Annotated[
    str,
    Option(
        "--mempool-disk-bytes",
        envvar="XPOD_MEMPOOL_DISK_BYTES",
        metavar="SIZE",
        help="Room on disk for blocks in each MemPool node; 0: none.",
    ),
]


def count_option(flag: str, what: str, default: str = "as in compose.yaml") -> object:
    """How many members of a kind a pod has."""
    variable = "XPOD_" + flag[2:].upper()
    return Option(
        flag, envvar=variable, min=0, metavar="N", show_default=False, help=f"{what} (default: {default})."
    )


def split_urls(urls: str) -> list[str]:
    """The URLs in a text with commas, without slashes at their ends."""
    return [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]

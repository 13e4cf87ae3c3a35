"""The options that several measurements share.

Knows: names, types and help texts.
Does not know: what a measurement does with a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from xpod.cli.options import count_option

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
RoutersOption = Annotated[int | None, count_option("--routers", "Routers")]
PrefillOption = Annotated[int | None, count_option("--prefill", "Prefill workers")]
DecodeOption = Annotated[int | None, count_option("--decode", "Decode workers")]
ExpertsOption = Annotated[int | None, count_option("--experts", "Expert shards")]
MempoolOption = Annotated[int | None, count_option("--mempool", "MemPool nodes")]
SupervisorsOption = Annotated[int | None, count_option("--supervisors", "Supervisors")]
TwoPrefillOption = Annotated[int | None, count_option("--prefill", "Prefill workers", "2")]
TwoDecodeOption = Annotated[int | None, count_option("--decode", "Decode workers", "2")]
OneDecodeOption = Annotated[int | None, count_option("--decode", "Decode workers", "1")]
PodUrlOption = Annotated[
    str,
    Option(
        "--url",
        envvar="XPOD_URL",
        metavar="URL,…",
        show_default=False,
        help="Routers of a pod that runs already, instead of pods of our own.",
    ),
]
PromptSeedOption = Annotated[
    int | None,
    Option(
        "--seed",
        envvar="XPOD_SEED",
        show_default=False,
        help="Of the prompts (default: another one each time).",
    ),
]

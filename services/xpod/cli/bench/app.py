"""The commands below `xpod bench`.

Knows: which there are.
Does not know: what any of them does.
"""

from __future__ import annotations

import typer

from xpod.cli.bench.compare.command import compare
from xpod.cli.bench.hop.command import hop
from xpod.cli.bench.make_model import make_model
from xpod.cli.bench.prefix.command import prefix
from xpod.cli.bench.readme import table
from xpod.cli.bench.serve import serve
from xpod.cli.bench.tree.command import tree
from xpod.cli.bench.turns.command import turns

app = typer.Typer(
    help="Measure a server from outside, the hop and the prompt tree from inside, and make the model to do it with.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("make-model")(make_model)
app.command("serve")(serve)
app.command("compare")(compare)
app.command("hop")(hop)
app.command("turns")(turns)
app.command("prefix")(prefix)
app.command("tree")(tree)
app.command("table")(table)

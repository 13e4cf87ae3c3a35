"""The commands below `xpod chaos`."""

from __future__ import annotations

import typer

from xpod.cli.chaos.calm import calm
from xpod.cli.chaos.drill import drill
from xpod.cli.chaos.network import network
from xpod.cli.chaos.storm import storm

app = typer.Typer(
    help="Break members of a pod on purpose, under load.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("drill")(drill)
app.command("storm")(storm)
app.command("network")(network)
app.command("calm")(calm)


@app.callback()
def chaos() -> None:
    """Break members of a pod on purpose, under load."""

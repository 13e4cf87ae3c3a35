"""`xpod`: the commands, and how every failure becomes one line and an exit code.

Knows: which commands there are.
Does not know: what any of them does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from xpod.cli.bench.app import app as bench
from xpod.cli.chaos.app import app as chaos
from xpod.cli.chat.command import chat
from xpod.cli.credentials.command import credentials
from xpod.cli.doctor.command import doctor
from xpod.cli.down import down
from xpod.cli.drain import drain
from xpod.cli.errors import BAD_USAGE, INTERRUPTED, CliError
from xpod.cli.key import app as key
from xpod.cli.kill import kill
from xpod.cli.log_command import logs
from xpod.cli.run import run
from xpod.cli.status import status
from xpod.cli.top.command import top
from xpod.cli.trace.command import trace
from xpod.cli.up import up

BROKEN_PIPE = 141
COMMANDS = (up, down, run, chat, status, top, logs, trace, doctor, drain, kill, credentials)
EPILOG = (
    "Every option also reads XPOD_<OPTION>. Exit codes: 0 done, 2 bad usage, 3 the pod could not be reached or "
    "started, 4 the request was refused, 130 interrupted."
)

app = typer.Typer(
    help="Serve Mixture-of-Experts models from a pod of processes, any of which may die.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(bench, name="bench")
app.add_typer(chaos, name="chaos")
app.add_typer(key, name="key")


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"xpod {version('xpod')}")
        except PackageNotFoundError:
            print("xpod (not installed)")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    ca: Annotated[
        str,
        typer.Option(
            "--ca", envvar="XPOD_CA", metavar="FILE", help="Trust this authority's routers (HTTPS; PEM)."
        ),
    ] = "",
) -> None:
    """Options of xpod itself."""
    if ca:
        os.environ["XPOD_CA"] = ca


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the `xpod` script."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code. Expected failures are one line on stderr."""
    try:
        result = app(list(arguments), prog_name="xpod", standalone_mode=False)
    except CliError as error:
        return _fail(error.message, error.exit_code)
    except typer.TyperException as error:
        return _fail(error.format_message(), BAD_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # nobody reads: no complaint at exit either
        return BROKEN_PIPE
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.replace("Value error, ", "").split())
    if line:  # without arguments, the help was all that there is to say
        print(f"xpod: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()

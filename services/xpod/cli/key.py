"""`xpod key`: the API keys that routers ask for, in a file without the keys.

Knows: its options. Does not know: the file's form (see `xpod_runtime.api_keys`), or who reads it.
"""

from __future__ import annotations

import fcntl
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.http_face import KEYS_FILE
from xpod.cli.options import DEFAULT_DATA, DataOption, JsonOption

if TYPE_CHECKING:
    from xpod_runtime.api_keys import StoredKey

app = typer.Typer(help="API keys, one of which routers ask for.", no_args_is_help=True)
LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent")
FileOption = Annotated[
    Path | None,
    Option(
        "--file",
        envvar="XPOD_API_KEYS_FILE",
        metavar="FILE",
        show_default=False,
        help=f"The file of keys (default: {KEYS_FILE} in --data).",
    ),
]


def _limit(flag: str, what: str) -> object:
    variable = "XPOD_" + flag[2:].upper().replace("-", "_")
    return Option(
        flag, envvar=variable, min=1, metavar="N", show_default=False, help=f"{what} (default: no limit)."
    )


@app.command()
def add(  # noqa: PLR0917
    name: Annotated[str, Argument(metavar="NAME", help="Whose it is.")],
    requests_per_minute: Annotated[
        int | None, _limit("--requests-per-minute", "Requests in a minute")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, _limit("--tokens-per-minute", "Tokens of prompts and answers in a minute")
    ] = None,
    concurrent: Annotated[int | None, _limit("--concurrent", "Requests at once")] = None,
    data: DataOption = DEFAULT_DATA,
    file: FileOption = None,
) -> int:
    """Make a key and print it: this is the only time that it is there to be seen.

    Routers that read the file know it within a second or two.
    """
    from xpod_runtime.api_keys import NAME, new_key

    if not re.fullmatch(NAME, name):
        raise CliError(f"{name!r} is not a name (letters, digits and . _ @ -, at most 64)", BAD_USAGE)
    path = _path(data, file)
    first = not path.exists()
    with _changed(path) as keys:
        if any(each.name == name for each in keys):
            raise CliError(f"there is a key of the name {name}; xpod key remove {name}", BAD_USAGE)
        key, stored = new_key(
            name,
            int(time.time()),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrent=concurrent,
        )
        keys.append(stored)
    print(key)
    if first and file is None and _runs(data):
        print("the pod that runs here asks for keys from its next start on", file=sys.stderr)
    return 0


@app.command(name="list")
def list_(data: DataOption = DEFAULT_DATA, file: FileOption = None, as_json: JsonOption = False) -> int:
    """Show whose keys there are, and their limits."""
    path = _path(data, file)
    keys = _read(path)
    if as_json:
        told = [each.model_dump(exclude={"salt", "hash"}) for each in keys]
        print(json.dumps({"file": str(path), "keys": told}))
        return 0
    for each in keys:
        limits = [
            f"{name.replace('_', ' ')}: {getattr(each, name)}" for name in LIMITS if getattr(each, name)
        ]
        made = time.strftime("%Y-%m-%d", time.localtime(each.created))
        print(f"{each.id}  {made}  {each.name}  {', '.join(limits)}".rstrip())
    return 0


@app.command()
def remove(
    name: Annotated[str, Argument(metavar="NAME|ID", help="Whose it is, or its id.")],
    data: DataOption = DEFAULT_DATA,
    file: FileOption = None,
) -> int:
    """Take a key away: routers refuse it within a second or two. What it has begun goes on."""
    with _changed(_path(data, file)) as keys:
        left = [each for each in keys if name not in (each.name, each.id)]
        if len(left) == len(keys):
            raise CliError(f"there is no key of {name}", BAD_USAGE)
        keys[:] = left
    return 0


def _path(data: Path, file: Path | None) -> Path:
    return (file or data / KEYS_FILE).expanduser().resolve()


def _runs(data: Path) -> bool:
    from xpod.cli.state import read_state

    state = read_state(data.expanduser().resolve())
    return state is not None and bool(state.living())


def _read(path: Path) -> list[StoredKey]:
    from xpod_runtime.api_keys import read_keys
    from xpod_runtime.errors import ConfigError

    try:
        return list(read_keys(path)) if path.exists() else []
    except ConfigError as error:
        raise CliError(str(error)) from error


@contextmanager
def _changed(path: Path) -> Iterator[list[StoredKey]]:
    """What is made of the list is written, and nobody else writes meanwhile."""
    from xpod_runtime.api_keys import write_keys

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = _read(path)
            yield keys
            write_keys(path, tuple(keys))
    except OSError as error:
        raise CliError(f"{error.filename or path}: {error.strerror}") from error

"""What the tests of the command line share: a subprocess's environment, and `xpod` itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from xpod.cli.main import run_command

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process's environment without XPOD_ variables, with the source roots: children inherit it too."""
    for name in [name for name in os.environ if name.startswith("XPOD_")]:
        monkeypatch.delenv(name)
    roots = [str(ROOT / part) for part in ("proto", "shared", "services")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")]))
    return dict(os.environ)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture
def command(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `xpod` with arguments in this very process, which is much faster."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        status = run_command(arguments)
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def xpod(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs `xpod` with arguments in an empty directory."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xpod.cli", *arguments],
            env=environment | variables,
            cwd=tmp_path,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run

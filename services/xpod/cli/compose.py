"""Which members a pod has: read from compose.yaml, so that there is one list of services.

Knows: that a service called `<kind>-<i>` is member i of its kind, counted from 0 without gaps.
Does not know: images, ports or health checks; those are Docker's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from xpod.cli.errors import CliError

KINDS = ("router", "prefill", "decode", "expert", "mempool", "supervisor", "nats")
_SERVICE = re.compile(r"([a-z]+)-(\d+)")


def compose_path() -> Path:
    """compose.yaml: the wheel's copy beside this file, else the one at the root of the checkout."""
    here = Path(__file__).resolve()
    packaged = here.with_name("compose.yaml")
    return packaged if packaged.is_file() else here.parents[3] / "compose.yaml"


def default_counts(path: Path | None = None) -> dict[str, int]:
    """How many members of each kind compose.yaml names."""
    path = path or compose_path()
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise CliError(f"{path} is not YAML: {error}") from error
    return count_services(document, str(path))


def count_services(document: Any, name: str) -> dict[str, int]:
    """Members by kind in a compose document; services that are no member are left out."""
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise CliError(f"{name} has no services")
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for service in services:
        match = _SERVICE.fullmatch(str(service))
        if match and match[1] in found:
            found[match[1]].append(int(match[2]))
    for kind, indexes in found.items():
        if sorted(indexes) != list(range(len(indexes))):
            raise CliError(f"{name}: the {kind} services are not numbered 0 to {len(indexes) - 1}")
    return {kind: len(indexes) for kind, indexes in found.items()}

"""A network of this machine's own for a pod: a namespace a member, and a bridge between them in one more.

Knows: names, addresses, and the commands of `ip` and `nft` that build, disturb and remove it.
Does not know: what runs in it, or when it is disturbed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xpod.cli.errors import BAD_USAGE, UNREACHABLE, CliError
from xpod.cli.process import birth_of

PREFIX = "xpod-net-"
TOOLS = ("ip", "nft", "ss")
FAULTS = "xpod_faults"
MOST_MEMBERS = 250
Command = tuple[str, ...]
Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it printed. Raises CliError."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and addresses. `run` is the pid of the drill, so that what a killed one left is known as such.

    Addresses are of 198.18.0.0/15, which is set apart for tests of networks.
    """

    run: int
    members: tuple[str, ...]

    @property
    def hub(self) -> str:
        return f"{PREFIX}{self.run}"

    @property
    def outside(self) -> str:
        """The interface outside of all namespaces, by which clients come in."""
        return f"xpod{self.run}"

    @property
    def gateway(self) -> str:
        return self._address(1)

    def namespace(self, member: str) -> str:
        return f"{self.hub}-{member}"

    def address(self, member: str) -> str:
        return self._address(2 + self.members.index(member))

    def inside(self, member: str, argv: Sequence[str]) -> Command:
        """The command that runs another one in a member's namespace, under the same pid."""
        return ("ip", "netns", "exec", self.namespace(member), *argv)

    def _address(self, host: int) -> str:
        return f"198.{18 + self.run // 256 % 2}.{self.run % 256}.{host}"

    def building(self) -> list[Command]:
        """In order; each depends on those before it."""
        commands = [
            _ip(f"netns add {self.hub}"),
            _ip(f"-n {self.hub} link add bridge type bridge"),
            _ip(f"-n {self.hub} link set bridge up"),
            _ip(f"link add {self.outside} type veth peer name outside netns {self.hub}"),
            _ip(f"-n {self.hub} link set outside master bridge up"),
            _ip(f"address add {self.gateway}/24 dev {self.outside}"),
            _ip(f"link set {self.outside} up"),
        ]
        for member in self.members:
            inner = self.namespace(member)
            commands += [
                _ip(f"netns add {inner}"),
                _ip(f"-n {self.hub} link add {member} type veth peer name eth0 netns {inner}"),
                _ip(f"-n {self.hub} link set {member} master bridge up"),
                _ip(f"-n {inner} address add {self.address(member)}/24 dev eth0"),
                _ip(f"-n {inner} link set eth0 up"),
                _ip(f"-n {inner} link set lo up"),
            ]
        return commands

    def removing(self) -> list[Command]:
        """Interfaces go with their namespaces. Each may fail where there is nothing to remove."""
        names = [*(self.namespace(member) for member in self.members), self.hub]
        return [_ip(f"link delete {self.outside}"), *(_ip(f"netns delete {name}") for name in names)]

    def dropping(self, rules: Iterable[str]) -> Command:
        """From now on the bridge drops what one of `rules` matches, and counts it."""
        lines = [
            f"add table bridge {FAULTS}",
            f"add chain bridge {FAULTS} forward {{ type filter hook forward priority 0; }}",
            *(f"add rule bridge {FAULTS} forward {rule} counter drop" for rule in rules),
        ]
        return ("ip", "netns", "exec", self.hub, "nft", "; ".join(lines))

    def counting(self) -> Command:
        return ("ip", "netns", "exec", self.hub, "nft", "-j", "list", "table", "bridge", FAULTS)

    def connections(self, member: str, port: int) -> Command:
        """Prints a line for each connection to that port of a member."""
        return self.inside(member, ["ss", "-Htn", "state", "established", "sport", "=", f":{port}"])

    def healing(self) -> Command:
        return ("ip", "netns", "exec", self.hub, "nft", "delete", "table", "bridge", FAULTS)


def run_command(argv: Sequence[str]) -> str:
    """What a command printed. Raises CliError with its own words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CliError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def require_root() -> None:
    """Raises CliError where namespaces cannot be made."""
    if os.geteuid() != 0:
        raise CliError("xpod chaos network makes network namespaces, and needs root for that", BAD_USAGE)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise CliError(f"xpod chaos network needs {missing[0]}, which is not installed", UNREACHABLE)


class Namespaces:
    """The network of a layout, while the context lasts; what killed drills left behind is removed first.

    A guard removes it where this process is killed: it waits for the end of a pipe that only we hold.
    """

    def __init__(self, layout: Layout, run: Run = run_command) -> None:
        self.layout = layout
        self._run = run
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Namespaces:
        for stale in leftovers(self._run(_ip("netns list"))):
            _try(self._run, _ip(f"netns delete {stale}"))
        self._guard = guard(self.layout.removing())
        try:
            for command in self.layout.building():
                self._run(command)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def remove(self) -> None:
        """All of it; a second call changes nothing."""
        for command in self.layout.removing():
            _try(self._run, command)
        if self._guard is not None:
            self._guard.communicate()

    def drop(self, rules: Iterable[str]) -> None:
        self._run(self.layout.dropping(rules))

    def connections(self, member: str, port: int) -> int:
        """How many clients are connected to that port of a member."""
        return len(self._run(self.layout.connections(member, port)).splitlines())

    def heal(self) -> int:
        """Ends what `drop` began; returns how many packets it took."""
        dropped = dropped_packets(self._run(self.layout.counting()))
        self._run(self.layout.healing())
        return dropped


def guard(commands: Iterable[Command]) -> subprocess.Popen[bytes]:
    """A process that runs `commands` once our end of its stdin is closed, however that comes."""
    script = "read _; " + "; ".join(" ".join(command) + " 2>/dev/null" for command in commands)
    return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)


def leftovers(listing: str) -> list[str]:
    """Namespaces in the output of `ip netns list` whose drill is gone."""
    names = [line.split()[0] for line in listing.splitlines() if line.startswith(PREFIX)]
    return [name for name in names if birth_of(_pid_of(name)) is None]


def _pid_of(name: str) -> int:
    number = name.removeprefix(PREFIX).partition("-")[0]
    return int(number) if number.isdigit() else 0


def dropped_packets(listing: str) -> int:
    """The sum of the counters in the output of `nft -j list`."""
    import json

    rules = [entry["rule"] for entry in json.loads(listing)["nftables"] if "rule" in entry]
    return sum(part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part)


def _ip(arguments: str) -> Command:
    return ("ip", *arguments.split())


def _try(run: Run, command: Command) -> None:
    try:
        run(command)
    except CliError:
        return

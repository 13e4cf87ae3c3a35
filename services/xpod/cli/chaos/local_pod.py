"""A pod of local processes as a target: signals to them, and what /proc says of them.

Knows: the state file. Does not know: routers' views, streams, or when to hit whom.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from tempfile import mkdtemp

import psutil

from xpod.cli.bench.compare.memory import pss
from xpod.cli.chaos.target import POD, Fault, Life, Signal, Target, Usage
from xpod.cli.errors import CliError
from xpod.cli.own_pod import LAUNCHER, OwnPod
from xpod.cli.process import KILL_SECONDS, ProcessRef, send, wait_gone
from xpod.cli.state import MemberState, logs_dir

SIGNALS = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}


class LocalPod(Target):
    """Processes of this machine. Their launcher starts them again."""

    def __init__(self, pod: OwnPod, *, own: bool) -> None:
        state = pod.state()
        names = [member.id for member in state.members if member.kind == "router"]
        super().__init__(dict(zip(names, state.endpoints, strict=True)))
        self.own = own
        self._pod = pod

    def lives(self) -> list[Life]:
        return [_life(member) for member in self._pod.state().members]

    def hit(self, member: str, signal: Signal) -> Fault:
        state = self._pod.state()
        found = state.members if member == POD else [each for each in state.members if each.id == member]
        hit = [each.process for each in found if each.process and (member != POD or each.kind != "nats")]
        sent = tuple(process for process in hit if send(process, SIGNALS[signal]))
        if not sent:
            raise CliError(f"{member} does not run")
        if signal == "KILL":
            wait_gone(sent, KILL_SECONDS)
        return Fault(member, signal, sent)

    def wake(self, fault: Fault) -> None:
        for process in fault.processes:
            send(process, signal.SIGCONT)

    def usage(self) -> list[Usage]:
        state = self._pod.state()
        launcher = MemberState(LAUNCHER, LAUNCHER, state.launcher)
        found = [_usage(member) for member in [launcher, *state.members]]
        return [usage for usage in found if usage is not None]

    def keep_logs(self) -> Path | None:
        if not self.own:
            return None
        kept = Path(mkdtemp(prefix="xpod-logs-"))
        shutil.copytree(logs_dir(self._pod.data), kept, dirs_exist_ok=True)
        return kept


def _life(member: MemberState) -> Life:
    process = member.process
    if process is None:
        return Life(member.id, member.kind, runs=False)
    return Life(member.id, member.kind, member.runs, _name(process), process.pid)


def _name(process: ProcessRef) -> str:
    return f"{process.pid} {process.birth}"


def _usage(member: MemberState) -> Usage | None:
    if member.process is None:
        return None
    try:
        process = psutil.Process(member.process.pid)
        memory = pss(process.pid) or process.memory_info().rss
        return Usage(_life(member), memory, process.num_fds())
    except psutil.Error:
        return None

"""From IR to functions that can be called, on this CPU.

It knows ctypes and threads, and where compiled code is kept; not what the kernels compute.
"""

import ctypes
import platform
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import llvmlite
import torch
from llvmlite import ir

from xpod_model.kernels.compiler import OPTIMISE, compiled
from xpod_model.kernels.elf import Loaded
from xpod_model.kernels.object_store import ObjectStore
from xpod_model.kernels.sequence import ADDRESS, ARGUMENTS, COUNTERS, SHARED, STEP
from xpod_model.kernels.team import Team


class Kernel(Protocol):
    """A kernel as a function of its arguments but the counters; addresses are integers and must outlive the call.

    Other Python threads run meanwhile. `threads` share the items.
    """

    def __call__(self, *arguments: int, threads: int = 1) -> None: ...


NEEDED = {"avx512f", "avx512bw", "avx512vl", "avx512_bf16"}
SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
SERVE_SIGNATURE = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p
)


@cache
def cpu() -> tuple[str, frozenset[str]]:
    """This CPU's name and features, as Linux tells them; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return "", frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = " ".join(facts.get(key, "") for key in ("vendor_id", "cpu family", "model", "model name"))
    return name, frozenset(facts.get("flags", "").split())


def supported() -> bool:
    """Can this machine run the kernels? They want Linux, and AVX-512 with bf16."""
    return platform.machine() == "x86_64" and cpu()[1] >= NEEDED


class Machine:
    """A module's functions. Keep it as long as they are called."""

    def __init__(self, module: ir.Module) -> None:
        text, (name, features) = str(module), cpu()
        store = ObjectStore.of(text, name, " ".join(sorted(features)), llvmlite.__version__, str(OPTIMISE))
        self._code = Loaded(store.get(lambda: compiled(text)))
        self._sequence = self.function("sequence")
        self._teams: dict[int, Team] = {}
        self._hiring = threading.Lock()

    def address(self, name: str) -> int:
        """Where a function lies, for programs."""
        return self._code.address(name)

    def function(self, name: str) -> Callable[[int], None]:
        """A function of an array's address."""
        return SIGNATURE(self.address(name))

    def serve(self) -> Callable[[int, bytes, bytes, bytes, int], None]:
        """The function of that name: array, rows, row_of, expert_of, address of out."""
        return SERVE_SIGNATURE(self.address("serve"))

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name."""
        address, call = self.address(name), self.function(name)

        def run(*arguments: int, threads: int = 1) -> None:
            if threads == 1:
                values = (ctypes.c_int64 * (len(arguments) + 2))(0, 0, *arguments)
                call(ctypes.addressof(values))
            else:
                step = (ctypes.c_int64 * (ARGUMENTS + len(arguments)))(address, 1, 0, 0, *arguments)
                self.run(ctypes.addressof(step), 1, threads)

        return run

    def run(self, program: int, steps: int, threads: int = 1) -> None:
        """A program, by its address; `threads` share those of its steps that may be shared.

        These are torch's where torch has several: its threads stay awake for a while, and would keep ours from a core.
        """
        if threads > 1 and torch.get_num_threads() > 1:
            _run_with_torch(program, steps, threads)
            return
        team = self._team(threads) if threads > 1 else None
        address = 0 if team is None else team.take()
        values = (ctypes.c_int64 * 3)(program, steps, address)
        try:
            self._sequence(
                ctypes.addressof(values)
            )  # `values` has a name because an address keeps nothing alive
        finally:
            if team is not None and address:
                team.release()

    def _team(self, threads: int) -> Team:
        team = self._teams.get(threads)
        if team is None:
            with self._hiring:
                team = self._teams.get(threads) or Team(self.function("help"), threads)
                self._teams[threads] = team
        return team


def _run_with_torch(program: int, steps: int, threads: int) -> None:
    for step in range(program, program + 8 * STEP * steps, 8 * STEP):
        head = (ctypes.c_int64 * ARGUMENTS).from_address(step)
        head[COUNTERS:ARGUMENTS] = [0] * (ARGUMENTS - COUNTERS)
        _openmp()(head[ADDRESS], step + 8 * COUNTERS, threads if head[SHARED] else 1, 0)


@cache
def _openmp() -> Callable[[int, int, int, int], None]:
    """OpenMP's own `parallel`, from the library that torch has loaded: its threads are there already."""
    parallel = ctypes.CDLL("libgomp.so.1").GOMP_parallel
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel

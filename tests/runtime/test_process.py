"""A real service process: exit codes, signals, what it prints."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

import xpod_proto
import xpod_runtime
from runtime.otlp_collector import collector
from xpod_proto import Ack, Down, FetchBlocks, Hello, subjects
from xpod_runtime.broker import free_ports
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import LIMIT, Recorder
from xpod_runtime.trace_context import TraceContext, within

SCRIPT = Path(__file__).with_name("service_example.py")
ROOTS = [str(Path(str(package.__file__)).parent.parent) for package in (xpod_proto, xpod_runtime)]
Process = asyncio.subprocess.Process


async def spawn(*argv: str, **variables: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), **variables},
    )


async def outcome(process: Process) -> tuple[int, list[str]]:
    """Exit code and the lines of stderr."""
    async with asyncio.timeout(LIMIT):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode().splitlines()


@pytest_asyncio.fixture
async def eye(nats_url: str) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(nats_url, "eye", wait=LIMIT)
    yield bus
    await bus.close()


async def test_it_serves_until_sigterm_and_says_good_bye(nats_url: str, eye: NatsBus) -> None:
    hellos, downs = Recorder(), Recorder()
    await eye.subscribe(subjects.hello("life"), hellos)
    await eye.subscribe(subjects.down("life"), downs)
    await eye.flush()
    process = await spawn("--pod", "life", "--id", "m1", "--nats-url", nats_url)
    starting, up = await hellos.wait(2)
    assert isinstance(starting, Hello)
    assert isinstance(up, Hello)
    assert (starting.state, up.state, up.pid) == ("starting", "up", process.pid)
    mailbox = subjects.mailbox("life", "mempool", "m1")
    assert await eye.request(mailbox, FetchBlocks((b"a",)), timeout=LIMIT) == Ack("1")
    process.send_signal(signal.SIGTERM)
    assert await downs.wait() == [Down("m1", up.incarnation, "drained")]
    assert (await outcome(process))[0] == 0


async def test_a_hopeless_child_ends_the_process(nats_url: str) -> None:
    code, errors = await outcome(await spawn("--id", "m2", "--nats-url", nats_url, "--fault", "child"))
    assert code == 1
    assert errors[-1].startswith("xpod mempool m2: m2/sick was restarted 5 times and is given up")
    assert "Traceback" in json.loads(errors[-2])["exception"]


async def test_a_failure_in_setup_ends_the_process(nats_url: str) -> None:
    code, errors = await outcome(await spawn("--id", "m3", "--nats-url", nats_url, "--fault", "setup"))
    assert code == 1
    assert errors[-1] == "xpod mempool m3: ValueError: no weights here"


async def test_a_bad_option_is_one_line_and_2() -> None:
    assert await outcome(await spawn("--prot", "1")) == (
        2,
        ["xpod mempool: unknown option --prot (did you mean --port?)"],
    )


async def test_sigterm_while_it_waits_for_nats() -> None:
    (port,) = free_ports(1)
    process = await spawn("--id", "m4", "--nats-url", f"nats://127.0.0.1:{port}")
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT):
        assert b"connection error" in await process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert (await outcome(process))[0] == 0


async def test_help() -> None:
    process = await spawn("--help")
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"--nats-url" in output


async def test_it_exports_what_it_did_for_whom(nats_url: str, eye: NatsBus) -> None:
    context = TraceContext("1" * 32, "2" * 16, sampled=True)
    hellos = Recorder()
    await eye.subscribe(subjects.hello("traced"), hellos)
    await eye.flush()
    with collector() as (url, came):
        process = await spawn(
            "--pod", "traced", "--id", "m1", "--nats-url", nats_url, OTEL_EXPORTER_OTLP_ENDPOINT=url
        )
        await hellos.wait(2)
        with within(context):
            await eye.request(subjects.mailbox("traced", "mempool", "m1"), FetchBlocks(()), timeout=LIMIT)
        process.send_signal(signal.SIGTERM)
        assert await outcome(process) == (0, [])
        [resource] = (await asyncio.to_thread(came.get, timeout=LIMIT)).resource_spans
    told = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (told["service.name"], told["service.instance.id"]) == ("xpod-mempool", "m1")
    [span] = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (
        "pool.fetch",
        context.trace,
        context.span,
    )

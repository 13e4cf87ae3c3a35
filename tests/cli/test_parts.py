"""A machine's part of a pod: which options make one, and when it is up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xpod.cli.credentials.keyring import Keyring
from xpod.cli.errors import CliError
from xpod.cli.main import run_command
from xpod.cli.part_readiness import HeartbeatProbe
from xpod.cli.plan import MemberSpec
from xpod.cli.starting import PodRequest, _counts
from xpod_proto import Heartbeat, subjects
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.credentials import read_credentials
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import LIMIT, running_broker


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--machine", "a-b", "--nats-url", "nats://h", "--pod", "p"], "--machine: 'a-b' is not a name"),
        (["--machine", "a", "--pod", "p", "--experts", "1"], "--nats-url"),
        (["--machine", "a", "--nats-url", "nats://h", "--experts", "1"], "--pod, or --credentials"),
        (["--machine", "a", "--nats-url", "nats://h", "--pod", "p"], "which members?"),
        (["--experts", "0"], "'--experts': only a part of a pod has none (--machine)"),
    ],
)
def test_what_makes_no_part_is_named(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["up", "--data", str(tmp_path / "pod"), *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_part_has_the_members_that_are_named() -> None:
    counts = _counts(PodRequest(machine="a", counts={"expert": 2, "router": None}))
    assert {kind: count for kind, count in counts.items() if count} == {"expert": 2}
    assert all(_counts(PodRequest(counts={"expert": 5})).values())
    with pytest.raises(CliError, match="'--decode': only a part"):
        _counts(PodRequest(counts={"decode": 0}))


def members(keyring: Keyring | None) -> list[MemberSpec]:
    def of(kind: str) -> dict[str, str]:
        return {"XPOD_CREDENTIALS": str(keyring.of(kind))} if keyring else {}

    return [MemberSpec(f"{kind}-a_0", kind, (), of(kind)) for kind in ("expert", "prefill")]


def beat(kind: str, state: str, machine: str = "a") -> Heartbeat:
    return Heartbeat(f"{kind}-{machine}_0", kind, "i", 1, state, {})


async def until_told(probe: HeartbeatProbe, said: str, bus: NatsBus, *beats: Heartbeat) -> None:
    """Heartbeats, again and again as members say them, until the probe says that."""
    for _ in range(1000):
        for each in beats:
            await bus.publish(subjects.heartbeat("p", each.kind), each)
        await bus.flush()
        if await probe() == said:
            return
    raise AssertionError(await probe())


async def test_it_is_up_when_its_members_say_so_and_whoever_else_is_there_does_not_count(
    tmp_path: Path,
) -> None:
    async with running_broker(tmp_path) as broker:
        probe, bus = HeartbeatProbe("p", [broker.url], members(None)), await NatsBus.connect(broker.url, "m")
        assert await probe() == "not up yet: expert-a_0, prefill-a_0"
        others = beat("expert", "up", "b"), beat("prefill", "starting")
        await until_told(probe, "not up yet: prefill-a_0", bus, beat("expert", "up"), *others)
        await until_told(probe, "", bus, beat("prefill", "up"))
        await until_told(probe, "not up yet: expert-a_0", bus, beat("expert", "draining"))
        await probe.close()
        await bus.close()


async def test_it_listens_with_the_credentials_of_the_kinds_that_it_has(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "keys", "p")
    broker = Broker(BrokerConfig("nats-0", tmp_path, access=keyring.access(["127.0.0.1"])))
    broker.start()
    try:
        await broker.wait_ready()
        for kind in set(subjects.KINDS) - {"expert", "prefill"}:  # other machines have these
            shutil.rmtree(keyring.of(kind))
        probe = HeartbeatProbe("p", [broker.url], members(keyring))
        assert await probe() == "not up yet: expert-a_0, prefill-a_0"
        for kind in ("expert", "prefill"):
            inbox = subjects.inbox("p", kind)
            mine = read_credentials(keyring.of(kind), inbox)
            bus = await NatsBus.connect(broker.url, "m", wait=LIMIT, credentials=mine)
            left = "" if kind == "prefill" else "not up yet: prefill-a_0"
            await until_told(probe, left, bus, beat(kind, "up"))
            await bus.close()
        await probe.close()
    finally:
        broker.kill()


async def test_why_nobody_can_be_heard_is_told(tmp_path: Path) -> None:
    probe = HeartbeatProbe("p", ["nats://127.0.0.1:1"], members(None))
    assert "no NATS server answers at nats://127.0.0.1:1" in await probe()
    lost = HeartbeatProbe("p", ["nats://127.0.0.1:1"], members(Keyring(tmp_path, "p")))
    assert "no credentials for NATS" in await lost()
    await probe.close()

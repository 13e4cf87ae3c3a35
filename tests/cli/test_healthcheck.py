"""The check speaks the real protocol: it is held to xpod_proto, and to a real broker."""

import asyncio
from pathlib import Path

import pytest

from xpod.cli.credentials.keyring import Keyring
from xpod.cli.healthcheck import beats, is_heartbeat_of, main
from xpod_proto import Heartbeat, Message, RollCall, encode, subjects
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.credentials import read_credentials
from xpod_runtime.nats_bus import NatsBus


def heartbeat(member: str) -> Heartbeat:
    return Heartbeat(
        member=member, kind="decode", incarnation="i", sequence=1, state="up", load={"sessions": 1}
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [(heartbeat("decode-0"), True), (heartbeat("decode-1"), False), (RollCall(asker="decode-0"), False)],
)
def test_heartbeats_are_told_from_the_rest(message: Message, expected: bool) -> None:
    assert is_heartbeat_of(encode(message), "decode-0") is expected


def test_garbage_is_no_heartbeat() -> None:
    assert not is_heartbeat_of(b"\xc1", "decode-0")
    assert not is_heartbeat_of(b"", "decode-0")


async def test_a_member_is_heard_by_way_of_nats(tmp_path: Path) -> None:
    broker = Broker(BrokerConfig("nats-0", tmp_path))
    broker.start()
    try:
        await broker.wait_ready()
        bus = await NatsBus.connect(broker.url, "decode-0", wait=5.0)
        listening = asyncio.create_task(
            asyncio.to_thread(beats, f"nats://127.0.0.1:1,{broker.url}", "pod", "decode-0", 20.0)
        )
        while not listening.done():
            await bus.publish(subjects.heartbeat("pod", "decode"), heartbeat("decode-1"))
            await bus.publish(subjects.heartbeat("pod", "decode"), heartbeat("decode-0"))
            await asyncio.wait({listening}, timeout=0.02)
        assert listening.result()
        assert not await asyncio.to_thread(beats, broker.url, "pod", "decode-0", 0.05), "silence is no life"
        await bus.close()
    finally:
        broker.kill()


@pytest.mark.parametrize("kind", subjects.KINDS)
async def test_a_member_with_credentials_is_heard_by_its_own(tmp_path: Path, kind: str) -> None:
    """Over TLS, and with no other rights than the member's."""
    keyring = Keyring(tmp_path / "credentials", "pod")
    broker = Broker(BrokerConfig("nats-0", tmp_path, access=keyring.access(["127.0.0.1"])))
    broker.start()
    try:
        await broker.wait_ready()
        member = f"{kind}-0"
        mine = read_credentials(keyring.of(kind), subjects.inbox("pod", kind))
        bus = await NatsBus.connect(broker.url, member, wait=5.0, credentials=mine)
        listening = asyncio.create_task(
            asyncio.to_thread(beats, broker.url, "pod", member, 20.0, keyring.of(kind))
        )
        beat = Heartbeat(member=member, kind=kind, incarnation="i", sequence=1, state="up", load={})
        while not listening.done():
            await bus.publish(subjects.heartbeat("pod", kind), beat)
            await asyncio.wait({listening}, timeout=0.02)
        assert listening.result()
        assert not await asyncio.to_thread(beats, broker.url, "pod", member, 0.2), "nobody without a key"
        await bus.close()
    finally:
        broker.kill()


def test_no_server_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"XPOD_NATS_URL": "nats://127.0.0.1:1", "XPOD_ID": "decode-0"}) == 1
    assert capsys.readouterr().err == "no heartbeat of decode-0\n"

"""NKeys, TLS, and what a nats-server refuses."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats import errors as nats_errors

from runtime.secure import ALL, SecureBroker, secure_server
from xpod_proto import Ack, subjects
from xpod_proto.codec import encode
from xpod_runtime.config import ServiceConfig
from xpod_runtime.credentials import NOBODY, Credentials, credentials_of, new_seed, read_credentials
from xpod_runtime.errors import BusError, ConfigError
from xpod_runtime.line import Incoming
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.nats_line import NatsLine
from xpod_runtime.nats_socket import NatsSocket
from xpod_runtime.testing import LIMIT, Flag, Recorder, running_broker


@pytest.fixture(scope="module")
def pod_broker() -> Iterator[SecureBroker]:
    """With the users of a pod; without TLS, which another test has."""
    with (
        tempfile.TemporaryDirectory(prefix="xpod-nats-") as folder,
        secure_server(Path(folder), tls=False, jetstream=True) as secure,
    ):
        yield secure


@pytest.fixture
def other_broker(tmp_path: Path) -> Iterator[SecureBroker]:
    """Of another pod, with an authority of its own."""
    with secure_server(tmp_path / "other", ALL) as secure:
        yield secure


async def connected(secure: SecureBroker, kind: str, flag: Flag | None = None) -> NatsBus:
    return await NatsBus.connect(
        secure.url, f"{kind}-0", wait=LIMIT, credentials=secure.of(kind), on_fatal=flag
    )


# -- files ----------------------------------------------------------------------------------------------


def test_a_seed_is_read_and_not_shown(tmp_path: Path) -> None:
    seed = new_seed()
    (tmp_path / "nats.nk").write_text(seed + "\n")
    (tmp_path / "nats.nk").chmod(0o600)
    credentials = credentials_of(ServiceConfig(pod="one", credentials=str(tmp_path)))
    assert credentials == Credentials("_INBOX.one.member", seed)
    assert seed not in repr(credentials)
    assert credentials.public_key.startswith("U")
    (tmp_path / "ca.pem").write_text("")
    assert read_credentials(tmp_path, "_INBOX").authority == str(tmp_path / "ca.pem")


def test_without_a_directory_there_is_an_inbox_of_the_kind_alone() -> None:
    assert credentials_of(ServiceConfig(pod="one")) == Credentials("_INBOX.one.member")


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (None, 0o600, "No such file"),
        ("not a seed", 0o600, "is not the seed of an NKey"),
        ("", 0o600, "is not the seed of an NKey"),
        (new_seed(), 0o640, "can be read by others: chmod 600"),
        (new_seed(), 0o604, "can be read by others: chmod 600"),
    ],
    ids=("missing", "words", "empty", "a group's", "everybody's"),
)
def test_what_is_no_secret_is_refused(tmp_path: Path, text: str | None, mode: int, reason: str) -> None:
    key = tmp_path / "nats.nk"
    if text is not None:
        key.write_text(text)
        key.chmod(mode)
    with pytest.raises(ConfigError, match=reason):
        read_credentials(tmp_path, "_INBOX")


# -- who gets in ----------------------------------------------------------------------------------------


async def test_nobody_gets_in_without_a_key_that_the_server_knows(pod_broker: SecureBroker) -> None:
    for stranger in (NOBODY, Credentials(seed=new_seed())):
        with pytest.raises(BusError, match="do not trust each other"):
            await NatsBus.connect(pod_broker.url, "stranger", wait=LIMIT, credentials=stranger)
        with pytest.raises(BusError, match="Authorization Violation"):
            await asyncio.to_thread(NatsSocket, pod_broker.url, "stranger", stranger)


async def test_a_pod_s_authority_is_the_only_one(
    secure_broker: SecureBroker, other_broker: SecureBroker, tmp_path: Path
) -> None:
    """A server of another pod, and one without TLS, are not taken for ours."""
    ours = secure_broker.credentials
    with pytest.raises(BusError, match="do not trust each other"):
        await NatsBus.connect(other_broker.url, "router-0", wait=LIMIT, credentials=ours)
    with pytest.raises(OSError, match="certificate verify failed"):
        await asyncio.to_thread(NatsSocket, other_broker.url, "router-0", ours)
    async with running_broker(tmp_path / "plain") as plain:
        with pytest.raises(BusError, match="does not speak TLS"):
            await NatsBus.connect(plain.url, "router-0", wait=LIMIT, credentials=ours)
        with pytest.raises(BusError, match="does not speak TLS"):
            await asyncio.to_thread(NatsSocket, plain.url, "router-0", ours)


# -- what they may do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", subjects.KINDS)
async def test_a_kind_with_another_s_credentials_is_refused(pod_broker: SecureBroker, kind: str) -> None:
    """Its mailbox is not the other's: the connection is told so, and its process ends."""
    for other in set(subjects.KINDS) - {kind}:
        fatal = Flag()
        bus = await connected(pod_broker, other, fatal)
        await bus.subscribe(subjects.mailbox("xpod", kind, f"{kind}-0"), Recorder())
        await fatal.wait()
        await bus.close()


@pytest.mark.parametrize("kind", subjects.KINDS)
async def test_each_kind_has_its_own_subjects_and_no_others(pod_broker: SecureBroker, kind: str) -> None:
    """What a stranger to a subject says there reaches nobody; what is its own does."""
    may = {
        subjects.placement("xpod"): {"supervisor"},
        subjects.holdings("xpod"): {"expert"},
        subjects.tokens("xpod", "s1"): {"prefill", "decode"},
        subjects.calls("xpod", "expert-0"): {"prefill", "decode"},
    }
    hearers = {
        subjects.placement("xpod"): "expert",
        subjects.holdings("xpod"): "decode",
        subjects.tokens("xpod", "s1"): "router",
        subjects.calls("xpod", "expert-0"): "expert",
    }
    for subject, speakers in may.items():
        hearer, speaker = await connected(pod_broker, hearers[subject]), await connected(pod_broker, kind)
        heard = Recorder()
        await hearer.subscribe(subject, heard)
        await hearer.subscribe(subjects.hello("xpod"), heard)
        await hearer.flush()
        await speaker.publish(subject, Ack("subject"))
        await speaker.publish(subjects.hello("xpod"), Ack("end"))
        expected = [Ack("subject"), Ack("end")] if kind in speakers else [Ack("end")]
        assert await heard.wait(len(expected)) == expected
        await speaker.close()
        await hearer.close()


@pytest.mark.parametrize("kind", subjects.KINDS)
async def test_the_system_account_is_nobody_s(pod_broker: SecureBroker, kind: str) -> None:
    """Nor are the orders that it takes; the account's own events are all that members hear."""
    fatal = Flag()
    bus = await connected(pod_broker, kind, fatal)
    with pytest.raises(nats_errors.Error):
        await bus.client.request("$SYS.REQ.SERVER.PING", b"", timeout=0.3)
    await bus.on_departure(lambda name: None)
    await bus.flush()
    assert not fatal
    await bus.client.subscribe("$SYS.>")
    await fatal.wait()
    await bus.close()


async def test_stores_are_for_their_writers(pod_broker: SecureBroker) -> None:
    router, supervisor = await connected(pod_broker, "router"), await connected(pod_broker, "supervisor")
    expert = await connected(pod_broker, "expert")
    sessions = router.store(subjects.sessions_bucket("xpod"), lifetime=60.0)
    await sessions.put("s1.facts", Ack("kept"))
    assert await sessions.below("s1") == {"facts": Ack("kept")}
    await sessions.drop("s1")
    shelf = supervisor.store(subjects.shelf_bucket("xpod"), lifetime=60.0)
    await shelf.put("lease", Ack("mine"))
    read = expert.store(subjects.shelf_bucket("xpod"), lifetime=60.0)
    entry = await read.get("lease")
    assert entry is not None
    assert entry.message == Ack("mine")
    await expert.client.publish("$KV.xpod-pod.lease", b"forged")
    await expert.flush()
    entry = await shelf.get("lease")
    assert entry is not None
    assert entry.message == Ack("mine")
    for bus in (router, supervisor, expert):
        await bus.close()


async def test_a_question_whose_answer_we_may_not_send_costs_no_connection(pod_broker: SecureBroker) -> None:
    """Whoever asks could else end a member by the subject that it names for the answer."""
    fatal = Flag()
    router, expert = await connected(pod_broker, "router"), await connected(pod_broker, "expert", fatal)
    mailbox = subjects.mailbox("xpod", "expert", "expert-0")
    await expert.subscribe(mailbox, Recorder(lambda message: message))
    await expert.flush()
    await router.client.publish(mailbox, encode(Ack("bad")), reply="$SYS.REQ.SERVER.PING")
    assert await router.request(mailbox, Ack("good"), timeout=LIMIT) == Ack("good")
    assert not fatal
    for bus in (router, expert):
        await bus.close()


async def test_nor_does_it_cost_a_line_its_connection(pod_broker: SecureBroker) -> None:
    calls = subjects.calls("xpod", "expert-0")
    line = NatsLine([pod_broker.url], "expert-0.line", credentials=pod_broker.of("expert"))
    decode = await connected(pod_broker, "decode")
    try:
        await asyncio.to_thread(line.listen, calls)
        await decode.client.publish(calls, encode(Ack("bad")), reply="$SYS.REQ.SERVER.PING")
        asking = asyncio.create_task(decode.request(calls, Ack("good"), timeout=LIMIT))
        for _ in range(2):
            call = await asyncio.to_thread(line.take, LIMIT)
            assert isinstance(call, Incoming)
            line.answer(call, call.message)
            line.flush()
        assert await asking == Ack("good")
    finally:
        line.close()
        await decode.close()

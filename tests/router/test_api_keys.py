"""Keys in a file: who gets in, what each may ask for, and that changes are noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from router.api_fakes import COMPLETIONS, FakeEngine, app_of, says
from xpod.router.api.keys import LOOK_SECONDS, Keys
from xpod_runtime.api_keys import StoredKey, id_of, new_key, read_keys, write_keys
from xpod_runtime.errors import ConfigError

HI = {"prompt": "hi"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made(path: Path, *names: str, **limits: int) -> list[str]:
    """Keys of those names, in the file."""
    pairs = [new_key(name, 1, **limits) for name in names]
    write_keys(path, tuple(stored for _, stored in pairs))
    return [key for key, _ in pairs]


def client(engine: FakeEngine, **settings: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app_of(engine, **settings))
    return httpx.AsyncClient(transport=transport, base_url="http://router")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_file_has_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, second = made(path, "ann", "bob")
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for key in (first, second):
        secret = key.split("-", 2)[2]
        assert len(secret) >= 43  # 256 bits
        assert secret not in text
    ann, bob = read_keys(path)
    assert ann.opens(first)
    assert not ann.opens(second)
    assert not ann.opens(first[:-1])
    assert (id_of(first), id_of(second)) == (ann.id, bob.id)
    assert ann.salt != bob.salt


@pytest.mark.parametrize("key", ["", "xpod", "xpod-", "xpod-a", "other-a-b", "xpod--x"])
def test_what_is_no_key_has_no_id(key: str) -> None:
    assert id_of(key) in ("", "a") or len(key.split("-")) == 3


DAMAGES = [
    (b"", "is not a file of API keys"),
    (b"[]", "is not a file of API keys"),
    (b'{"keys":[{"id":"x"}]}', "is not a file of API keys"),
    (b"\xff", "is not a file of API keys"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGES)
def test_damage_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=message):
        read_keys(path)


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path, "ann")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(path)
    with pytest.raises(ConfigError, match="no API keys in"):
        read_keys(tmp_path / "none.json")


async def test_who_has_a_key_gets_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (key,) = made(path, "ann")
    async with client(FakeEngine(*says("ok")), api_keys_file=path, api_key="plain") as http:
        for good in (key, "plain"):
            assert (await http.post(COMPLETIONS, json=HI, headers=bearer(good))).status_code == 200
        for bad in ("", "x", key[:-1], key + "x", key.replace("-", "_"), "xpod-000000000000-x", "\xe9"):
            answer = await http.post(
                COMPLETIONS, json=HI, headers={"authorization": f"Bearer {bad}".encode("latin-1")}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert key not in answer.text
        assert (await http.get("/health")).status_code == 200


def test_a_key_is_the_same_tenant_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, second = made(path, "ann", "bob")
    here, there = Keys(file=path), Keys(("plain",), path)
    tenants = [
        [found.tenant for key in (first, second) if (found := keys.find(key))] for keys in (here, there)
    ]
    assert tenants[0] == tenants[1]
    assert len(set(tenants[0])) == 2
    assert not any(key.encode() in tenant for key in (first, second) for tenant in tenants[0])
    plain = there.find("plain")
    assert plain is not None
    assert plain.tenant not in tenants[0]
    alone = Keys(("plain",)).find("plain")
    assert alone is not None
    assert alone.tenant == b""


def test_changes_are_noticed(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    (first,) = made(path, "ann")
    keys = Keys(file=path, clock=clock)
    assert keys.find(first) is not None
    (second,) = made(path, "bob")
    assert keys.find(second) is None  # it looks now and then
    clock.now += LOOK_SECONDS
    with capture_logs():
        assert keys.find(second) is not None
        assert keys.find(first) is None


def test_a_damaged_file_changes_nothing_and_none_lets_nobody_in(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    (key,) = made(path, "ann")
    keys = Keys(file=path, clock=clock)
    path.write_text("{")
    clock.now += LOOK_SECONDS
    with capture_logs() as logs:
        assert keys.find(key) is not None
        clock.now += LOOK_SECONDS
        assert keys.find(key) is not None
    assert [each["log_level"] for each in logs] == ["warning"]
    path.unlink()
    clock.now += LOOK_SECONDS
    with capture_logs():
        assert keys.find(key) is None
    assert keys.needed


def test_a_balance_outlives_a_change_of_the_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    (key,) = made(path, "ann", requests_per_minute=1)
    keys = Keys(file=path, clock=clock)
    found = keys.find(key)
    assert found is not None
    assert found.account is not None
    assert found.account.enter(clock.now) is None
    other: StoredKey = new_key("bob", 1)[1]
    write_keys(path, (*read_keys(path), other))
    clock.now += LOOK_SECONDS
    with capture_logs():
        again = keys.find(key)
    assert again is not None
    assert again.account is found.account
    assert again.account.enter(clock.now) is not None


async def test_requests_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (key,) = made(path, "ann", requests_per_minute=2)
    (free,) = [made(tmp_path / "other.json", "x")[0]]
    async with client(FakeEngine(*says("ok")), api_keys_file=path) as http:
        answers = [await http.post(COMPLETIONS, json=HI, headers=bearer(key)) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert [each.headers["x-ratelimit-remaining-requests"] for each in answers] == ["1", "0", "0"]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
        assert answers[0].headers["x-ratelimit-reset-requests"].endswith("s")
        error = answers[2].json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert "2 requests per minute" in error["message"]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        assert (await http.get("/v1/models", headers=bearer(key))).status_code == 200  # asks for no work
        assert (await http.post(COMPLETIONS, json=HI, headers=bearer(free))).status_code == 401


async def test_tokens_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (key,) = made(path, "ann", tokens_per_minute=10)
    async with client(FakeEngine(*says("okay")), api_keys_file=path) as http:
        first = await http.post(COMPLETIONS, json={"prompt": "hello"}, headers=bearer(key))
        assert first.headers["x-ratelimit-remaining-tokens"] in {"0", "1"}  # 5 of the prompt, 5 of the answer
        second = await http.post(COMPLETIONS, json={"prompt": "hello"}, headers=bearer(key))
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_requests_at_once_count_until_their_stream_ends(tmp_path: Path) -> None:
    import asyncio

    path = tmp_path / "keys.json"
    (key,) = made(path, "ann", concurrent=1)
    go = asyncio.Event()
    engine = FakeEngine(97, go, 98, 256)
    async with client(engine, api_keys_file=path) as http:
        body = {"prompt": "x", "stream": True}
        first = asyncio.create_task(http.post(COMPLETIONS, json=body, headers=bearer(key)))
        await engine.began.wait()
        await engine.sessions[0].waits.wait()
        second = await http.post(COMPLETIONS, json=body, headers=bearer(key))
        assert second.status_code == 429
        assert second.headers["retry-after"] == "1"
        go.set()
        assert (await first).status_code == 200
        third = await http.post(COMPLETIONS, json=body, headers=bearer(key))
        assert third.status_code == 200


def test_a_file_that_is_not_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Keys(file=tmp_path / "none.json")
    assert not os.listdir(tmp_path)

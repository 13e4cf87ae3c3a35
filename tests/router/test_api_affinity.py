"""Who shares KV with whom, and what belongs to one conversation."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from router.api_fakes import CHAT, COMPLETIONS, HI, FakeEngine, app_of, says
from xpod.router.api.engine_protocol import Affinity

KEYS = "one, two"
Request = tuple[str | None, dict[str, Any]]
"""The API key and the body's fields."""


async def asked(keys: str | None, *requests: Request, path: str = COMPLETIONS) -> list[Affinity]:
    """What the engine is told of each request."""
    engine = FakeEngine(*says("ok"))
    transport = httpx.ASGITransport(app_of(engine, api_key=keys))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        for key, fields in requests:
            headers = {"authorization": f"Bearer {key}"} if key else None
            body = HI if path == CHAT else {"prompt": "hi"}
            answer = await http.post(path, json=body | fields, headers=headers)
            assert answer.status_code == 200, answer.text
    return engine.affinities


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_without_several_keys_nobody_is_apart(path: str) -> None:
    none = await asked(None, (None, {}), ("any", {}), path=path)
    one = await asked("one", ("one", {}), path=path)
    assert {each.salt for each in none + one} == {""}


async def test_each_key_has_a_salt_of_its_own() -> None:
    first, again, second = (each.salt for each in await asked(KEYS, ("one", {}), ("one", {}), ("two", {})))
    assert first == again != second
    assert "" not in (first, second)
    assert "one" not in first
    (elsewhere,) = await asked("three,one", ("one", {}))
    assert elsewhere.salt == first, "at any router"


async def test_cache_salt_and_key_count_together() -> None:
    requests: list[Request] = [
        (key, {"cache_salt": salt} if salt else {}) for key in ("one", "two") for salt in ("", "a", "b")
    ]
    salts = [each.salt for each in await asked(KEYS, *requests)]
    alone = [
        each.salt for each in await asked(None, (None, {"cache_salt": "a"}), (None, {"cache_salt": "b"}))
    ]
    assert len({*salts, *alone}) == len(requests) + 2
    assert all(len(salt) == 32 for salt in (*salts, *alone))


@pytest.mark.parametrize(
    ("fields", "conversation"),
    [
        ({}, ""),
        ({"user": "u"}, "u"),
        ({"prompt_cache_key": "k"}, "k"),
        ({"prompt_cache_key": "k", "user": "u"}, "k"),
        ({"prompt_cache_key": "", "user": "u"}, "u"),
        ({"prompt_cache_key": None, "cache_salt": None}, ""),
    ],
)
async def test_a_conversation(fields: dict[str, Any], conversation: str) -> None:
    assert await asked(None, (None, fields)) == [Affinity("", conversation)]


async def test_whose_turn_it_is() -> None:
    """Tenants are the keys, where there are several; a salt makes none."""
    alone = await asked("one", ("one", {"priority": -3}))
    assert [(each.tenant, each.priority) for each in alone] == [("", -3)]
    mine, salted, theirs = await asked(KEYS, ("one", {}), ("one", {"cache_salt": "s"}), ("two", {}))
    assert mine.tenant == salted.tenant != theirs.tenant
    assert "" not in (mine.tenant, theirs.tenant)


async def test_all_choices_are_alike() -> None:
    found = await asked(KEYS, ("one", {"n": 2, "prompt": ["a", "b"], "user": "u"}))
    assert len(found) == 4
    assert len(set(found)) == 1


async def test_open_paths_ask_for_no_key() -> None:
    transport = httpx.ASGITransport(app_of(FakeEngine(), api_key=KEYS))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        assert (await http.get("/health")).status_code == 200
        for headers in ({}, {"authorization": "Bearer three"}, {"authorization": "Basic one"}):
            assert (await http.post(COMPLETIONS, json={"prompt": "hi"}, headers=headers)).status_code == 401

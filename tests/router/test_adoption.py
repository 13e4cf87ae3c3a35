"""Responses in the background whose router died: one of the others goes on with them, and only one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from router.api_fakes import FakeEngine, app_of, says, shelf_of
from xpod.router.adoption import Adoption
from xpod.router.api import Overloaded
from xpod_policy.membership import Change, Member, State
from xpod_proto import ResponseOwner
from xpod_runtime.local_store import LocalStore, Shelf
from xpod_runtime.testing import LIMIT


class Routers:
    """The routers that a view shows."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)

    def usable(self, kind: str) -> list[Member]:
        assert kind == "router"
        return [member(name) for name in self.names]


def member(name: str, state: State = "up") -> Member:
    return Member(name, "router", "i0", 1, "h", "", state, 0.0, 0.0, {})


class Router:
    """One of them, up to the shelf that all have."""

    def __init__(self, store: Shelf, name: str, others: Iterable[str], *script: object) -> None:
        self.engine = FakeEngine(*script)
        shelf = shelf_of(LocalStore(store), name)
        self.app = app_of(self.engine, shelf)
        self.view = Routers(others)
        self.ready = True
        self.adoption = Adoption(shelf, self.app.state.desk, self.view, lambda: self.ready)  # type: ignore[arg-type]

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
            answer = await http.request(method, f"/v1/responses{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer

    async def begin(self) -> str:
        return str((await self._ask("POST", "", {"input": "hi", "background": True})).json()["id"])

    async def events(self, id: str) -> str:
        """Of a response, up to its end."""
        return (await self._ask("GET", f"/{id}?stream=true")).text


async def test_the_living_keep_what_they_have() -> None:
    store = Shelf()
    one, two = Router(store, "r1", ["r2"], asyncio.Event()), Router(store, "r2", ["r1"])
    await one.begin()
    for each in (one, two):
        await each.adoption.look()
    assert (len(one.engine.opened), len(two.engine.opened)) == (1, 0)


async def test_one_goes_on_with_what_the_dead_had() -> None:
    store = Shelf()
    dead = Router(store, "r1", ["r2", "r3"], asyncio.Event())
    two, three = (Router(store, name, ["r2", "r3"], *says("done")) for name in ("r2", "r3"))
    id = await dead.begin()
    await asyncio.gather(two.adoption.look(), three.adoption.look())
    (taken,) = [each for each in (two, three) if each.engine.opened]
    assert taken.engine.opened == dead.engine.opened
    assert "response.completed" in await three.events(id)
    await two.adoption.look()
    assert not [key for key in store.values if key.startswith("running.")]
    assert len(two.engine.opened) + len(three.engine.opened) == 1


async def test_a_router_that_was_started_again_goes_on_with_its_own() -> None:
    store = Shelf()
    await Router(store, "r1", [], asyncio.Event()).begin()
    again = Router(store, "r1", [], asyncio.Event())
    await again.adoption.look()
    await again.adoption.look()
    assert len(again.engine.opened) == 1


async def test_what_cannot_go_on_now_goes_on_later() -> None:
    store = Shelf()
    await Router(store, "r1", [], asyncio.Event()).begin()
    two = Router(store, "r2", ["r2"], asyncio.Event())
    two.ready = False  # as at its start, when it knows nobody
    await two.adoption.look()
    (owner,) = [key for key in store.values if key.startswith("running.")]
    assert b"r1" in store.values[owner][0]
    two.ready, two.engine.refusal = True, Overloaded(1)
    await two.adoption.look()
    store.answers = False
    await two.adoption.look()
    store.answers, two.engine.refusal = True, None
    await two.adoption.look()
    assert len(two.engine.opened) == 1


@pytest.mark.parametrize("missing", ["facts", "nothing"])
async def test_what_nobody_can_go_on_with_is_forgotten(missing: str) -> None:
    store = Shelf()
    one = Router(store, "r1", [], *says("a"))
    id = await one.begin()
    if missing == "facts":
        for key in [key for key in store.values if key.endswith(".facts")]:
            del store.values[key]
    else:  # its router died between its last two words
        assert "response.completed" in await one.events(id)
        await LocalStore(store).put(f"running.{id.removeprefix('resp_')}.owner", ResponseOwner("r1"))
    two = Router(store, "r2", ["r2"])
    await two.adoption.look()
    assert not [key for key in store.values if key.startswith("running.")]
    assert two.engine.opened == []


async def test_it_looks_as_soon_as_a_router_is_gone() -> None:
    store = Shelf()
    await Router(store, "r1", [], asyncio.Event()).begin()
    two = Router(store, "r2", ["r1", "r2"], asyncio.Event())
    watching = asyncio.create_task(two.adoption.watch())
    await asyncio.sleep(0)
    two.view.names.discard("r1")
    await two.adoption.on_member(Change(member("r1", "down"), "up", "ended"))
    async with asyncio.timeout(LIMIT):
        await two.engine.began.wait()
    watching.cancel()

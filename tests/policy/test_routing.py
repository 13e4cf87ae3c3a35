"""Which prefill worker gets a prompt, by each rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xpod_policy.cost import LoadCost, PrefillCost
from xpod_policy.rendezvous import ranked
from xpod_policy.routing import Candidate, Route, Routing, expected, route

COST = PrefillCost(step=0.0, token=0.001, pair=0.0)
"""A millisecond a token."""
CHEAP, DEAR = LoadCost(0.005, 0.001), LoadCost(0.5, 0.1)
TREE = Routing.PROMPT_TREE


def worker(name: str, **more: object) -> Candidate:
    return replace(Candidate(name, cost=COST, load=CHEAP), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("candidate", "length", "found"),
    [
        (worker("a"), 100, (0, 100, 0.1)),
        (worker("a", kept=64), 100, (64, 36, 0.036)),
        (worker("a", kept=64, pooled=64), 100, (64, 36, 0.036)),
        (worker("a", kept=64, pooled=80), 100, (80, 20, 0.020 + 0.005 + 0.001)),
        (worker("a", pooled=96), 100, (96, 4, 0.004 + 0.005 + 0.006)),
        (worker("a", pooled=96, load=DEAR), 100, (0, 100, 0.1)),
        (worker("a", kept=90, pooled=96), 100, (96, 4, 0.004 + 0.006)),
        (worker("a", kept=92, pooled=96), 100, (92, 8, 0.008)),
        (worker("a", kept=100, pooled=100), 100, (99, 1, 0.001)),
        (worker("a", pooled=112), 100, (99, 1, 0.001 + 0.005 + 0.007)),
        (worker("a", kept=64, pooled=96, cost=None), 100, (64, 36, 0.0)),
        (worker("a"), 1, (0, 1, 0.001)),
    ],
)
def test_what_a_prompt_will_be_there(
    candidate: Candidate, length: int, found: tuple[int, int, float]
) -> None:
    """Blocks are fetched where that takes no longer than computing them."""
    told = expected(candidate, length)
    assert (told.name, told.cached, told.tokens) == ("a", *found[:2])
    assert told.seconds == pytest.approx(found[2])


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([worker("a"), worker("b")], "a"),
        ([worker("b"), worker("a")], "a"),
        ([worker("a"), worker("b", kept=64)], "b"),
        ([worker("a", kept=32), worker("b", kept=64)], "b"),
        ([worker("a"), worker("b", kept=64, seconds=0.05)], "b"),
        ([worker("a"), worker("b", kept=64, seconds=0.07)], "a"),
        ([worker("a", seconds=0.01), worker("b", kept=96, seconds=5.0)], "a"),
        ([worker("a", seconds=0.05, pooled=96), worker("b", pooled=96)], "b"),
        ([worker("a", pooled=96, load=DEAR), worker("b", pooled=96)], "b"),
        ([worker("a", cost=PrefillCost(0, 0.002, 0)), worker("b")], "b"),
        ([worker("a", tokens=50, cost=None), worker("b", tokens=40)], "b"),
        ([worker("a", tokens=40, cost=None), worker("b", tokens=50, kept=96)], "b"),
        ([worker("a", tokens=40, cost=None), worker("b", tokens=50, cost=None)], "a"),
    ],
)
def test_prompt_tree(candidates: list[Candidate], chosen: str | None) -> None:
    """The least of what waits and what is left of the prompt; tokens while somebody's costs are unknown."""
    found = route(TREE, candidates, 100)
    assert (found.name if found else None) == chosen


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([worker("a", tokens=5), worker("b", tokens=3)], "b"),
        ([worker("a", tokens=5), worker("b", tokens=5)], "a"),
        ([worker("a", tokens=5), worker("b", tokens=6, kept=96)], "a"),
    ],
)
def test_least_load(candidates: list[Candidate], chosen: str | None) -> None:
    found = route(Routing.LEAST_LOAD, candidates, 100)
    assert (found.name if found else None) == chosen


def test_round_robin() -> None:
    workers = [worker("c"), worker("a", tokens=1000), worker("b", kept=64)]
    found = [route(Routing.ROUND_ROBIN, workers, 100, turn=turn) for turn in range(4)]
    assert [each.name for each in found if each] == ["a", "b", "c", "a"]
    assert found[1] == Route("b", 64, 36, COST.seconds(36, 64)), "what is expected is told all the same"
    assert route(Routing.ROUND_ROBIN, [], 100) is None


def test_session() -> None:
    """A conversation stays where it is, as long as that worker does; then it has one other."""
    names = [f"prefill-{number}" for number in range(5)]
    workers = [worker(name, tokens=number) for number, name in enumerate(names)]
    went: set[str] = set()
    for conversation in map(str, range(50)):
        first, second = ranked(conversation.encode(), names)[:2]
        found = route(Routing.SESSION, workers, 100, conversation=conversation)
        assert found is not None
        assert found.name == first
        left = [each for each in workers if each.name != first]
        again = route(Routing.SESSION, left, 100, conversation=conversation)
        assert again is not None
        assert again.name == second
        went.add(first)
    assert went == set(names)

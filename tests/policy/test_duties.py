"""Which blocks a node looks at when nodes come and go, and what it does for them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.duties import COPIES, Duties, Duty, homes

NAMES = [hashlib.blake2b(str(number).encode(), digest_size=16).digest() for number in range(300)]
NODES = ["a", "b", "c", "d"]


def living(*nodes: str, reborn: str = "") -> dict[str, str]:
    return {node: "second" if node == reborn else "first" for node in nodes}


def settled(me: str, nodes: dict[str, str]) -> Duties:
    """Everything done."""
    duties = Duties(me)
    assert duties.nodes_are(nodes)
    duties.consider(NAMES)
    duties.done(NAMES)
    assert len(duties) == 0
    return duties


def due(duties: Duties) -> set[bytes]:
    return {name for name in NAMES if name in duties}


def test_homes_are_two() -> None:
    assert all(len(set(homes(name, NODES))) == COPIES == 2 for name in NAMES)
    assert homes(NAMES[0], ["a"]) == ["a"]


def test_a_node_that_begins_looks_at_all_it_has() -> None:
    duties = Duties("a")
    duties.nodes_are(living("a"))
    duties.consider(NAMES)
    assert due(duties) == set(NAMES)
    assert duties.duty(NAMES[0]) == Duty((), keep=True)


def test_who_is_there_as_before_is_no_change() -> None:
    duties = settled("a", living("a", "b"))
    assert not duties.nodes_are(living("b", "a"))


def test_a_newcomer_gets_its_share_and_nothing_else_is_looked_at() -> None:
    duties = settled("a", living("a", "b", "c"))
    assert duties.nodes_are(living("a", "b", "c", "d"))
    mine = [name for name in NAMES if "a" in homes(name, ["a", "b", "c"])]
    duties.consider(mine)
    assert due(duties) == {name for name in mine if "d" in homes(name, NODES)}
    for name in due(duties):
        duty = duties.duty(name)
        assert "d" in duty.others
        assert duty.keep == ("a" in homes(name, NODES))
        assert len(duty.others) == (1 if duty.keep else 2)


def test_where_a_node_dies_the_next_one_gets_its_blocks() -> None:
    duties = settled("a", living(*NODES))
    duties.nodes_are(living("a", "b", "c"))
    mine = [name for name in NAMES if "a" in homes(name, NODES)]
    duties.consider(mine)
    assert due(duties) == {name for name in mine if "d" in homes(name, NODES)}
    assert all(duties.duty(name).keep for name in due(duties))


def test_a_node_that_came_back_may_have_lost_all() -> None:
    duties = settled("a", living("a", "b", "c"))
    assert duties.nodes_are(living("a", "b", "c", reborn="b"))
    mine = [name for name in NAMES if "a" in homes(name, ["a", "b", "c"])]
    duties.consider(mine)
    assert due(duties) == {name for name in mine if "b" in homes(name, ["a", "b", "c"])}


def test_what_stays_and_is_used_most_comes_first() -> None:
    duties = Duties("a")
    duties.nodes_are(living("a", "b", "c"))
    duties.look_at(NAMES)
    order = duties.in_order(lambda name: name[0] % 4)
    keeps = [duties.duty(name).keep for name in order]
    assert keeps == sorted(keeps, reverse=True)
    used = [name[0] % 4 for name in order if duties.duty(name).keep]
    assert used == sorted(used, reverse=True)
    assert set(order) == set(NAMES)


@given(st.lists(st.sets(st.sampled_from(NODES)), min_size=1, max_size=5))
def test_however_nodes_come_and_go_every_block_gets_home(history: list[set[str]]) -> None:
    """Each node does its duties at once; a block that some node has is never lost, and ends with its homes."""
    nodes = {node: Duties(node) for node in NODES}
    held: dict[str, set[bytes]] = {node: set(NAMES[:40]) if node == "a" else set() for node in NODES}
    for there in [*history, set(NODES)]:
        present = there | {"a"}
        for node in sorted(present):
            mine = nodes[node]
            mine.nodes_are(living(*present))
            mine.consider(held[node])
            for name in [name for name in NAMES if name in mine]:
                duty = mine.duty(name)
                for other in duty.others:
                    held[other].add(name)
                if not duty.keep:
                    held[node].discard(name)
                mine.done([name])
    for name in NAMES[:40]:
        assert {node for node in NODES if name in held[node]} == set(homes(name, NODES))


@pytest.mark.parametrize("me", NODES)
def test_whoever_is_no_home_hands_over(me: str) -> None:
    duties = settled(me, living(*NODES))
    for name in NAMES:
        duty = duties.duty(name)
        assert duty.keep == (me in homes(name, NODES))
        assert set(duty.others) == set(homes(name, NODES)) - {me}

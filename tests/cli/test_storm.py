"""Storms without a pod: who may be hit, who is back, what grows, how it adds up."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Collection

import pytest

from xpod.cli.answer import Answer
from xpod.cli.chaos.growth import Sample, by_kind, growing, growth, slope
from xpod.cli.chaos.load import Ended, judged
from xpod.cli.chaos.oracle import Verdict
from xpod.cli.chaos.storm_report import Storm, summary, tables
from xpod.cli.chaos.streams import Stream
from xpod.cli.chaos.strikes import NATS_SECONDS, STOP_SECONDS, Strikes
from xpod.cli.chaos.target import Fault, Life, Signal, Target, Usage
from xpod.cli.chaos.undisturbed import Expected
from xpod.cli.chaos.usage_report import leaks
from xpod.cli.chaos.victims import victims

MEMBERS = {
    "router": ["router-0", "router-1"],
    "expert": ["expert-0", "expert-1", "expert-2"],
    "mempool": ["mempool-0"],
    "nats": ["nats-0", "nats-1", "nats-2"],
}
NATS = MEMBERS["nats"]
# who is away: who may be hit besides
RULE = {
    "nobody": ([], ["router-0", "router-1", "expert-0", "expert-1", "expert-2", *NATS]),
    "one of two": (["router-1"], ["expert-0", "expert-1", "expert-2", *NATS]),
    "one of three": (["expert-1"], ["router-0", "router-1", "expert-0", "expert-2", *NATS]),
    "two of three": (["expert-1", "expert-2"], ["router-0", "router-1", *NATS]),
    "a NATS node": (["nats-2"], ["router-0", "router-1", "expert-0", "expert-1", "expert-2"]),
    "all that may be": (["router-0", "expert-0", "expert-2", "nats-0"], []),
}


@pytest.mark.parametrize("case", RULE)
def test_one_of_each_kind_and_most_nats_nodes_stay(case: str) -> None:
    away, free = RULE[case]
    assert victims(MEMBERS, away) == free


def test_two_nats_nodes_have_no_majority_without_one_of_them() -> None:
    assert victims({"nats": ["nats-0", "nats-1"]}, []) == []
    assert len(victims({"nats": [f"nats-{i}" for i in range(5)]}, ["nats-3"])) == 4


class FakePod(Target):
    """Members that are away until a test lets them come back."""

    def __init__(self) -> None:
        super().__init__({"router-0": "http://a", "router-1": "http://b"})
        self.gone: dict[str, str] = {}
        self.asleep: set[str] = set()
        self.silent: Collection[str] = ()

    def lives(self) -> list[Life]:
        return [Life(each, kind, runs=True) for kind, names in MEMBERS.items() for each in names]

    def hit(self, member: str, signal: Signal) -> Fault:
        assert member not in self.gone
        self.gone[member] = "hit"
        self.asleep |= {member} if signal == "STOP" else set()
        return Fault(member, signal, ())

    def wake(self, fault: Fault) -> None:
        self.asleep.remove(fault.member)
        del self.gone[fault.member]

    def usage(self) -> list[Usage]:
        return []

    def absent(self, silent: Collection[str] = ()) -> dict[str, str]:
        self.silent = silent
        return self.gone


def test_a_storm_hits_all_it_may_and_never_more() -> None:
    pod, told = FakePod(), list[str]()
    strikes = Strikes(pod, random.Random(0), 0.5, told.append)
    for tick in range(400):
        strikes.tick(tick * 0.05)
        assert len(pod.gone) <= 4
        assert "mempool-0" not in pod.gone
    killed = set(pod.gone) - pod.asleep
    assert killed  # nobody starts them again here
    strikes.end()
    assert set(pod.gone) == killed
    assert sum(strikes.counts.values()) == sum("KILL" in text or "STOP" in text for text in told)
    assert strikes.most_away == 4


def test_a_storm_is_the_same_again_with_its_seed() -> None:
    told: list[list[str]] = []
    for _ in range(2):
        told.append([])
        strikes = Strikes(FakePod(), random.Random(5), 1.0, told[-1].append)
        for tick in range(100):
            strikes.tick(tick * 0.1)
    assert told[0] == told[1]


def test_who_was_stopped_is_woken_in_time_and_not_asked_meanwhile() -> None:
    pod = FakePod()
    strikes = Strikes(pod, random.Random(1), 1e9)
    strikes.tick(0.0)
    while not pod.asleep or not pod.gone.keys() - pod.asleep:  # somebody was stopped, somebody was killed
        strikes._next = 0.0
        strikes.tick(0.0)
    stopped = set(pod.asleep)
    strikes.tick(STOP_SECONDS[0] - 0.01)
    assert pod.asleep == stopped
    assert set(pod.silent) == stopped
    strikes.tick(STOP_SECONDS[1])
    assert pod.asleep == set()


def test_a_nats_node_is_back_when_routers_have_looked_at_it_again() -> None:
    pod = FakePod()
    told: list[str] = []
    strikes = Strikes(pod, random.Random(0), 1e9, told.append)
    strikes._members = {kind: NATS if kind == "nats" else [] for kind in strikes._members}
    strikes.tick(0.0)
    pod.gone.clear()
    pod.asleep.clear()
    strikes._away[next(iter(strikes._away))].until = None
    strikes.tick(NATS_SECONDS - 0.5)
    assert not any("back" in text for text in told)
    strikes.tick(NATS_SECONDS)
    assert told[-1].endswith("is back")


def usage(member: str, name: str, memory: int, files: int = 10) -> Usage:
    return Usage(Life(member, member.rpartition("-")[0], runs=True, name=name), memory, files)


def test_growth_is_that_of_processes_that_live() -> None:
    """A process that leaks 2 bytes a second, and one that is started anew at 60 s, small: together 2 bytes a second."""
    samples = [
        Sample(
            at,
            [
                usage("decode-0", "a", 1000 + 2 * at),
                usage("decode-1", "b", 5000 + 2 * at) if at < 60 else usage("decode-1", "c", 100 + 2 * at),
            ],
        )
        for at in range(0, 130, 10)
    ]
    found = growth(samples, "decode")
    assert found["memory_per_minute"] == pytest.approx(120)
    assert found["files_per_minute"] == 0
    assert found["seconds"] == 100
    assert by_kind(samples[0]) == {"decode": {"processes": 2, "memory": 6000, "files": 20}}


def test_young_processes_show_no_trend() -> None:
    samples = [Sample(at, [usage("decode-0", f"{at // 20}", at)]) for at in range(0, 100, 10)]
    nothing = (None, None)
    assert growth(samples, "decode") == {
        "memory_per_minute": None, "files_per_minute": None, "seconds": 0.0, "memory": nothing, "files": nothing,
    }  # fmt: skip


# what a process holds at a second of fifteen minutes, started anew each 90 s: does it grow?
HELD = {
    "the same": (lambda at: 1000, []),
    "a cache that is full after five minutes": (lambda at: 1000 + 10 * min(at, 300), []),
    "as young as it is": (lambda at: 1000 + 5 * (at % 90), []),
    "a little up and down": (lambda at: 1000 + 100 * (at // 10 % 2), []),
    "what it takes up again when it is started anew": (lambda at: 1000 + 2 * at, ["decode: memory"]),
}


@pytest.mark.parametrize("case", HELD)
def test_what_grows_holds_more_in_the_last_third_than_in_the_middle_one(case: str) -> None:
    held, grows = HELD[case]
    samples = [Sample(at, [usage("decode-0", f"{at // 90}", held(at), 20)]) for at in range(0, 901, 10)]
    assert growing(samples) == grows


def test_open_files_that_grow_are_named_and_a_short_time_tells_nothing() -> None:
    samples = [Sample(at, [usage("nats-0", "a", 1000, 10 + at // 10)]) for at in range(0, 901, 10)]
    assert growing(samples) == ["nats: files"]
    assert growing(samples[:30]) == []


def test_one_slope_for_parallel_lines() -> None:
    assert slope([[(0, 0), (1, 3)], [(5, 100), (7, 106)]]) == pytest.approx(3)
    assert slope([[(0, 5)]]) is None
    assert slope([]) is None


def test_a_stream_that_failed_has_no_gap_and_one_that_differs_is_wrong() -> None:
    expected = Expected(Answer(0.0, tokens=[1], logprobs=[0.5], finish_reason="stop"), 0.1)
    stream = Stream(["http://127.0.0.1:9"], {}, threading.Condition())
    stream.error = "the pod does not answer"
    failed = judged(3, stream, expected)
    assert (failed.right, failed.gap) == (False, 0.0)
    assert str(failed) == "stream 3 is wrong: the pod does not answer"
    stream.error = ""
    stream.answer = Answer(
        0.0, tokens=[2], logprobs=[0.5], finish_reason="stop", arrivals=[1.0, 1.5], resumed=2
    )
    stream.began = 0.5
    differs = judged(3, stream, expected)
    assert (differs.verdict, differs.gap, differs.recoveries) == (Verdict(changed=1), 0.5, 2)
    assert not differs.right


def test_a_storm_adds_up() -> None:
    samples = [Sample(at, [usage("decode-0", "a", 1_000_000 * (1 + at))]) for at in range(0, 150, 10)]
    storm = Storm(
        150.0,
        Counter({("decode", "KILL"): 2, ("nats", "STOP"): 1}),
        3,
        [
            Ended(0, Verdict(), "", 0.5, 4.0, 1),
            Ended(1, Verdict(lost=2, other="text"), "", 1.5, 5.0, 0),
            Ended(2, Verdict(), "refused", 0.0, 1.0, 0),
        ],
        samples,
        2.5,
        "",
    )
    report = summary(storm)
    assert report["faults"] == {"decode": {"KILL": 2, "STOP": 0}, "nats": {"KILL": 0, "STOP": 1}}
    assert (report["streams"], report["wrong"], report["lost"], report["other"]) == (3, 2, 2, ["text"])
    assert (report["errors"], report["gap_p50"], report["gap_worst"]) == (["refused"], 1.0, 1.5)
    assert [each["at"] for each in report["usage"]] == [0, 60, 120, 140]
    assert report["growth"]["decode"]["memory_per_minute"] == pytest.approx(60e6)
    *lines, memory, files = tables(report)
    assert "2 wrong (tokens: 2 lost, 0 doubled, 0 changed; 1 errors)" in lines[1]
    assert lines[3] == "whole after 2.50 s"
    assert [list(column.cells) for column in memory.columns][1:8] == [
        ["1 (1)"], ["61 (1)"], ["121 (1)"], ["141 (1)"], ["71.0"], ["121.0"], ["+60.00"],
    ]  # fmt: skip
    assert files.row_count == 1


def test_only_a_pod_of_its_own_is_judged_by_what_grows() -> None:
    pod = FakePod()
    assert not leaks({"growing": ["nats: files"]}, pod)
    pod.own = True
    assert leaks({"growing": ["nats: files"]}, pod)
    assert not leaks({"growing": []}, pod)


def test_a_table_of_an_hour_has_room_and_ends_with_the_end() -> None:
    samples = [Sample(at, [usage("nats-0", "a", 1_000_000)]) for at in range(0, 3610, 10)]
    storm = Storm(3600.0, Counter(), 0, [], samples, 0.0, "")
    *_, memory, _ = tables(summary(storm))
    times = [column.header for column in memory.columns if str(column.header).endswith(" s")]
    assert len(times) == 8
    assert times[-1] == "3600 s"


def test_nats_nodes_are_found_by_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where nobody leads, because a leader is being elected, any of them will do."""
    pod = FakePod()
    nodes = list(MEMBERS["nats"])
    monkeypatch.setattr(pod, "leaders", lambda: {nodes[1]})
    assert pod.members("nats-leader") == [nodes[1]]
    assert pod.members("nats-follower") == [nodes[0], *nodes[2:]]
    monkeypatch.setattr(pod, "leaders", set)
    assert pod.members("nats-leader") == nodes


def test_experts_that_are_held_too_often_for_a_while_change_nothing() -> None:
    """A shard that comes back between two placements holds more than it is to hold in the end."""
    pod = FakePod()

    def held(times: int) -> dict[str, object]:
        return {"ready": True, "placement": {"experts": {"0": {"0": ["s"] * times, "1": ["s"] * 3}}}}

    assert pod._short_of_experts(held(2)) == ""
    pod.begin()
    assert pod._short_of_experts(held(3)) == ""
    assert pod._short_of_experts(held(2)) == ""
    assert pod._short_of_experts(held(1)) == "an expert is held 1 times, not 2 times"

"""`xpod top`: what changed between two moments, how it looks, and the screen with its keys."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual.widgets import DataTable, RichLog, Static

from xpod.cli.errors import CliError
from xpod.cli.kill import Signal
from xpod.cli.top import figures, shown
from xpod.cli.top.command import top
from xpod.cli.top.samples import Moment, Samples
from xpod.cli.top.screen import Top

ROUTER = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="m"}} 3
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{{model_name="m"}} {tokens}
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{{model_name="m",le="+Inf"}} {tokens}
vllm:inter_token_latency_seconds_count{{model_name="m"}} {tokens}
vllm:inter_token_latency_seconds_sum{{model_name="m"}} {seconds}
# TYPE xpod_recoveries counter
xpod_recoveries_total {recoveries}
"""
SHARD = """\
# TYPE xpod_expert_pairs counter
xpod_expert_pairs_total{{expert="0",layer="1"}} {pairs}
xpod_expert_pairs_total{{expert="3",layer="1"}} 10
# TYPE xpod_busy_seconds counter
xpod_busy_seconds_total {busy}
"""


def member(id: str, state: str = "up", pid: int = 7, **detail: Any) -> dict[str, Any]:
    return {
        "id": id,
        "kind": id[:-2],
        "state": state,
        "pid": pid,
        "since": time.time() - 65,
        "detail": detail,
    }


def moment(at: float, *members: dict[str, Any], texts: dict[str, str] | None = None, **more: Any) -> Moment:
    status = {
        "pod": "p", "model": "m", "ready": True, "endpoints": ["http://r"], "members": list(members),
        "placement": {"epoch": 1, "experts": {"1": {str(e): ["expert-0"] for e in range(4)}}}, **more,
    }  # fmt: skip
    return Moment(at, status, {name: Samples.of(text) for name, text in (texts or {}).items()})


def router(tokens: int, seconds: float = 0.0, recoveries: int = 0) -> str:
    return ROUTER.format(tokens=tokens, seconds=seconds, recoveries=recoveries)


def test_rates_and_means_are_those_between_two_moments() -> None:
    before = moment(10.0, texts={"router-0": router(100, 5.0, 1), "router-1": router(0)})
    after = moment(12.0, texts={"router-0": router(140, 6.0, 2), "router-1": router(20, 0.5)})
    found = figures.summary(before, after)
    assert (found.streams, found.tokens_per_second, found.recoveries) == (6, 30.0, 2)
    assert found.between_tokens == pytest.approx(1.5 / 60)
    assert found.first_token is None
    assert found.hop == {"queue": None, "compute": None, "way": None}


def test_a_counter_that_became_smaller_counts_from_nothing_and_a_newcomer_not_yet() -> None:
    before = moment(0.0, texts={"router-0": router(1000)})
    after = moment(1.0, texts={"router-0": router(5), "router-1": router(900)})
    assert figures.summary(before, after).tokens_per_second == 5


def test_heat_is_a_rate_over_all_holders() -> None:
    def shards(pairs: int) -> dict[str, str]:
        return {name: SHARD.format(pairs=pairs, busy=pairs / 100) for name in ("expert-0", "expert-1")}

    before, after = moment(0.0, texts=shards(10)), moment(2.0, texts=shards(30))
    assert figures.heat(before, after) == {1: {0: 20.0, 3: 0.0}}
    assert figures.load_of(before, after, "expert-0") == pytest.approx(0.1)
    assert figures.load_of(before, after, "nats-0") is None
    newcomer = moment(2.0, texts={**shards(30), "expert-2": SHARD.format(pairs=1_000_000, busy=1)})
    assert figures.heat(before, newcomer) == {1: {0: 20.0, 3: 0.0}}


HAPPENED = {
    "nothing": ([member("decode-0")], [member("decode-0")], []),
    "a newcomer": ([], [member("decode-0")], ["decode-0 came"]),
    "somebody left": ([member("decode-0")], [], ["decode-0 is gone"]),
    "stopped": (
        [member("decode-0")],
        [member("decode-0", "suspect", note="held by SIGSTOP")],
        ["decode-0 is suspect, was up: held by SIGSTOP"],
    ),
    "started again": (
        [member("decode-0", pid=1)],
        [member("decode-0", pid=2)],
        ["decode-0 was started again (process 2, was 1), up"],
    ),
    "died": ([member("decode-0", pid=1)], [member("decode-0", "down", pid=0)], ["decode-0 is down, was up"]),
}


@pytest.mark.parametrize("case", HAPPENED)
def test_events_are_told_once(case: str) -> None:
    old, new, told = HAPPENED[case]
    assert list(figures.events(moment(0.0, *old), moment(1.0, *new))) == told


def test_recoveries_are_events() -> None:
    before, after = (moment(0.0, texts={"router-0": router(1, recoveries=n)}) for n in (2, 5))
    assert list(figures.events(before, after)) == ["3 sessions went on at another worker"]


DOES = {
    "decode": (member("decode-0", blocks_free=30, blocks_reserved=10, sequences=2), "2 sequences, KV 25%"),
    "not told yet": (member("decode-0"), "0 sequences, KV 0%"),
    "restarted": (member("expert-0", held=5, calls=9, restarts=2), "holds 5, 9 calls, restarts 2"),
    "a note": (member("expert-0", note="it failed"), "it failed"),
    "a supervisor": (member("supervisor-0", leader=True), "leads"),
    "nats": (member("nats-0", leads=True), "leads the journal"),
}


@pytest.mark.parametrize("case", DOES)
def test_what_a_member_does(case: str) -> None:
    found, told = DOES[case]
    assert shown.does(found) == told


def test_a_heat_map_has_a_line_a_layer_and_a_cell_an_expert() -> None:
    lines = shown.heat_map({0: {0: 5.0, 3: 10.0}, 2: {}}, 4).plain.splitlines()
    assert lines == ["  0 " + "██" * 4, "  2 " + "██" * 4, "brightest: 10 pairs a second"]
    assert shown.heat_map({}, 4).plain == "no expert was asked yet"
    assert len(shown.heat_map({0: {0: 1.0}}, 128).plain.splitlines()[0]) == 4 + 128


class Pod:
    """A pod that a test changes, as `Feed.read` and `hit` see it."""

    def __init__(self) -> None:
        self.now = moment(0.0, member("decode-0", sequences=1), member("expert-0", pid=9, held=4))
        self.trouble = ""
        self.hits: list[tuple[str, str]] = []

    def read(self) -> Moment:
        if self.trouble:
            raise CliError(self.trouble)
        return self.now

    def hit(self, member: str, signal: Signal) -> str:
        if member == "decode-0":
            raise CliError("decode-0 does not run now")
        self.hits.append((member, signal))
        return f"sent SIG{signal} to {member}"


def told(app: Top) -> str:
    return "\n".join(line.text for line in app.query_one("#events", RichLog).lines)


async def looked(app: Top, pilot: Any) -> None:
    """One more look, to its end."""
    await app.look().wait()
    await pilot.pause()


async def test_the_screen_shows_members_and_its_keys_hit_the_one_under_the_cursor() -> None:
    pod = Pod()
    app = Top(pod.read, pod.hit, 3600)
    async with app.run_test(size=(140, 40)) as pilot:
        await looked(app, pilot)
        table = app.query_one("#members", DataTable)
        assert [str(key.value) for key in table.rows] == ["decode-0", "expert-0"]
        assert "ready" in str(app.query_one("#head", Static).render())
        await pilot.press("k")
        assert "decode-0 does not run now" in told(app)
        await pilot.press("down", "s", "c")
        assert pod.hits == [("expert-0", "STOP"), ("expert-0", "CONT")]
        pod.now = moment(1.0, member("expert-0", "suspect", pid=9), member("decode-1"))
        await looked(app, pilot)
        assert [str(key.value) for key in table.rows] == ["expert-0", "decode-1"]
        assert "expert-0 is suspect, was up" in told(app)
        assert "decode-0 is gone" in told(app)
        pod.trouble = "no router answers: [refused]"
        await looked(app, pilot)
        assert "no router answers: [refused]" in told(app)
        assert table.row_count == 2


def test_without_a_terminal_it_says_what_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CliError, match="needs a terminal"):
        top()

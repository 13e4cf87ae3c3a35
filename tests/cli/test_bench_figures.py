"""Percentiles against numpy's, and requests put together from chunks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cli.bench_server import token, usage
from xpod.cli.bench.figures import figures, percentile
from xpod.cli.bench.load import Failure, Measurement, Outcome
from xpod.cli.bench.report import as_json
from xpod.cli.bench.trace import BadStream, Trace
from xpod.cli.bench.workload import Job

CHAT = {"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}
ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
LAST = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([0.0, 10.0], 0.95, 9.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0.99, 4.96),
        ([1.0, 2.0, 3.0], 0.0, 1.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
    ],
)
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


def test_percentiles_are_numpys() -> None:
    values = sorted(np.random.default_rng(1).exponential(size=101).tolist())
    for share in (0.01, 0.5, 0.95, 0.99):
        assert percentile(values, share) == pytest.approx(float(np.percentile(values, share * 100)))


def test_figures() -> None:
    found = figures([3.0, 1.0, 2.0])
    assert found is not None
    assert (found.count, found.mean, found.p50, found.min, found.max) == (3, 2.0, 2.0, 1.0, 3.0)
    assert figures([]) is None


def traced(*chunks: dict[str, Any] | str, finish: bool = True) -> Trace:
    """Chunk i comes at second i + 1 of a request that began at 0."""
    trace = Trace(0.0)
    for index, chunk in enumerate(chunks):
        trace.add(chunk if isinstance(chunk, str) else json.dumps(chunk), index + 1.0)
    if finish:
        trace.finish()
    return trace


@pytest.mark.parametrize(
    ("chunks", "ttft", "gaps", "tokens", "total"),
    [
        ([token(), token(finish="stop"), "[DONE]"], 1, [1], 2, 3),
        ([ROLE, CHAT, CHAT, CHAT, LAST, "[DONE]"], 2, [1, 1], 3, 6),
        ([token("", [1]), token("é", [2, 3], "length")], 1, [1], 3, 2),
        ([token(""), token("a", finish="length"), usage(4, 9), "[DONE]"], 2, [], 9, 4),
        ([token("a", [1], "length"), "[DONE]", token()], 1, [], 1, 2),
    ],
)
def test_a_request(chunks: list[Any], ttft: float, gaps: list[float], tokens: int, total: float) -> None:
    trace = traced(*chunks)
    assert (trace.ttft, trace.gaps, trace.output_tokens, trace.total) == (ttft, gaps, tokens, total)


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ([], "cut off"),
        ([token(), token()], "cut off"),
        ([token(), "[DONE]"], "cut off"),
        ([token("", finish="stop"), "[DONE]"], "empty"),
        ([token(), {"error": {"message": "no expert"}}], "error in stream"),
        (["nonsense"], "malformed"),
        (["[1]"], "malformed"),
        ([{"choices": ["a"]}], "malformed"),
        ([{"choices": [{"text": "a", "token_ids": 3}]}], "malformed"),
        ([{"usage": 3}], "malformed"),
    ],
)
def test_a_request_that_failed(chunks: list[Any], kind: str) -> None:
    with pytest.raises(BadStream) as raised:
        traced(*chunks)
    assert raised.value.kind == kind


def test_time_per_token_counts_tokens_and_not_chunks() -> None:
    assert traced(token("a", [1]), token("bc", [2, 3, 4], "length")).per_token == pytest.approx(1 / 3)
    assert traced(token("a", [1], "length")).per_token is None


def test_failed_requests_are_counted_and_in_no_average() -> None:
    good = traced(token("a", [1]), token("b", [2], "length"), usage(5, 2, cached=4))
    bad = traced(token("a", [1]), finish=False)
    outcomes = [
        Outcome(Job(0, [1], 1, 2), good, 0.0),
        Outcome(Job(1, [1], 1, 2), bad, 0.0, Failure("cut off", "m")),
        Outcome(Job(2, [1], 1, 3), good, 0.0),
    ]
    report = as_json(Measurement(outcomes, sent=4, began=0.0, ended=4.0))
    counted = {"sent": 4, "completed": 2, "failed": 1, "unfinished": 1, "ended_early": 1}
    assert report["requests"] == counted
    assert report["errors"] == [{"kind": "cut off", "count": 1, "first": "m"}]
    assert report["ttft_ms"]["count"] == 2
    assert (report["tokens"]["prompt"], report["tokens"]["prompt_cached"]) == (10, 8)
    assert (report["tokens"]["output"], report["tokens"]["counted_by_usage"]) == (4, 2)
    assert report["throughput"]["output_tokens_per_s"] == 1.0
    assert [each["error"] for each in report["each"]] == [None, "cut off", None]

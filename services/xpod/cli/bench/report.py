"""What was measured, as one JSON object.

Knows: which figure is made of which part of a trace. Failed requests are counted and never averaged.
Does not know: how it was measured, or how it looks on a terminal (see `table`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xpod.cli.bench.figures import figures
from xpod.cli.bench.load import Measurement, Outcome

Json = dict[str, Any]
MS = 1000


def as_json(measured: Measurement) -> Json:
    """Everything that follows from the outcomes; times in ms, throughput per second of the whole measurement."""
    good = [outcome for outcome in measured.outcomes if outcome.failure is None]
    seconds = measured.ended - measured.began
    tokens = _tokens(good)
    return {
        "requests": _requests(measured, good),
        "duration_s": round(seconds, 6),
        "tokens": tokens,
        "throughput": _throughput(len(good), tokens, seconds),
        **_latencies(good),
        "late_ms": _figures([outcome.late for outcome in measured.outcomes]),
        "errors": _errors(measured.outcomes),
        "recoveries": sum(outcome.trace.recoveries for outcome in good),
        "each": [_one(outcome, measured.began) for outcome in measured.outcomes],
    }


def _requests(measured: Measurement, good: Sequence[Outcome]) -> Json:
    ended = len(measured.outcomes)
    short = sum(outcome.trace.output_tokens < outcome.job.output_tokens for outcome in good)
    return {
        "sent": measured.sent,
        "completed": len(good),
        "failed": ended - len(good),
        "unfinished": measured.sent - ended,
        "ended_early": short,
    }


def _tokens(good: Sequence[Outcome]) -> Json:
    """`prompt` is None where a server counts no tokens and the prompts were text."""
    prompts = [_prompt_tokens(outcome) for outcome in good]
    known = [count for count in prompts if count is not None]
    return {
        "prompt": sum(known) if len(known) == len(prompts) else None,
        "prompt_cached": sum(outcome.trace.cached_tokens for outcome in good),
        "output": sum(outcome.trace.output_tokens for outcome in good),
        "counted_by_usage": sum(bool(outcome.trace.usage) for outcome in good),
        "counted_by_chunks": sum(not outcome.trace.usage for outcome in good),
    }


def _throughput(completed: int, tokens: Json, seconds: float) -> Json:
    def rate(count: int | None) -> float | None:
        return round(count / seconds, 6) if count is not None and seconds > 0 else None

    both = None if tokens["prompt"] is None else tokens["prompt"] + tokens["output"]
    return {
        "requests_per_s": rate(completed),
        "prompt_tokens_per_s": rate(tokens["prompt"]),
        "output_tokens_per_s": rate(tokens["output"]),
        "total_tokens_per_s": rate(both),
    }


def _latencies(good: Sequence[Outcome]) -> Json:
    traces = [outcome.trace for outcome in good]
    return {
        "ttft_ms": _figures([trace.ttft for trace in traces]),
        "inter_token_ms": _figures([gap for trace in traces for gap in trace.gaps]),
        "time_per_token_ms": _figures([each for trace in traces if (each := trace.per_token) is not None]),
        "e2e_ms": _figures([trace.total for trace in traces]),
    }


def _figures(seconds: Sequence[float]) -> Json | None:
    found = figures([value * MS for value in seconds])
    return found.as_json() if found else None


def _errors(outcomes: Sequence[Outcome]) -> list[Json]:
    """By kind, the most frequent first, with the first message of each."""
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    first = {failure.kind: failure.message for failure in reversed(failures)}
    counts = Counter(failure.kind for failure in failures)
    return [{"kind": kind, "count": count, "first": first[kind]} for kind, count in counts.most_common()]


def _one(outcome: Outcome, began: float) -> Json:
    trace, failure = outcome.trace, outcome.failure
    return {
        "index": outcome.job.index,
        "start_s": round(trace.started - began, 6),
        "ttft_ms": round(trace.ttft * MS, 3) if trace.arrivals else None,
        "e2e_ms": round(trace.total * MS, 3) if failure is None else None,
        "prompt_tokens": _prompt_tokens(outcome),
        "output_tokens": trace.output_tokens,
        "finish_reason": trace.finish_reason or None,
        "error": failure.kind if failure else None,
    }


def _prompt_tokens(outcome: Outcome) -> int | None:
    counted = outcome.trace.usage.get("prompt_tokens")
    return int(counted) if counted else outcome.job.prompt_tokens

"""What a request's life puts into which histogram."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from xpod.router.api.metrics import Metrics

PARTS = ("queue", "prefill", "decode", "inference")


class Clock:
    """Tells the times that it was given."""

    def __init__(self, *times: float) -> None:
        self._times: Iterator[float] = iter(times)

    def __call__(self) -> float:
        return next(self._times)


def spent(taken: float, *times: float) -> dict[str, tuple[float, float]]:
    """Count and sum of each part, of a request that came at 10; tokens came at all times but the last."""
    registry = CollectorRegistry()
    meter = Metrics("m", registry, Clock(*times)).meter(3, 50, 10.0)
    for _ in times[:-1]:
        meter.token(0, taken)
    meter.end("stop")
    found = {}
    for part in PARTS:
        name, labels = f"vllm:request_{part}_time_seconds", {"model_name": "m"}
        count, total = (registry.get_sample_value(f"{name}_{what}", labels) for what in ("count", "sum"))
        assert count is not None
        assert total is not None
        found[part] = (count, total)
    return found


@pytest.mark.parametrize(
    ("taken", "times", "expected"),
    [
        (11.0, (13.0, 17.0, 18.0), {"queue": 1.0, "prefill": 2.0, "decode": 5.0, "inference": 7.0}),
        (11.0, (13.0, 13.5), {"queue": 1.0, "prefill": 2.0, "inference": 2.5}),
        (0.0, (13.0, 17.0, 18.0), {"decode": 5.0}),
        (11.0, (18.0,), {}),
    ],
    ids=["two tokens", "one token", "taken elsewhere", "no token"],
)
def test_the_parts_of_a_request(taken: float, times: tuple[float, ...], expected: dict[str, float]) -> None:
    assert spent(taken, *times) == {
        part: (1.0, expected[part]) if part in expected else (0.0, 0.0) for part in PARTS
    }


def test_boards_of_other_versions_find_the_same_under_their_names() -> None:
    registry = CollectorRegistry()
    meter = Metrics("m", registry, Clock(11.0, 13.0, 14.0, 14.0)).meter(3, 50, 10.0)
    for _ in range(3):
        meter.token(0)
    meter.end("stop")
    found = {
        f"{name}_{part}": registry.get_sample_value(f"vllm:{name}_{part}", {"model_name": "m"})
        for name in (
            "time_per_output_token_seconds",
            "request_time_per_output_token_seconds",
            "request_max_num_generation_tokens",
            "request_params_max_tokens",
        )
        for part in ("count", "sum")
    }
    assert found == {
        "time_per_output_token_seconds_count": 2,
        "time_per_output_token_seconds_sum": 3,
        "request_time_per_output_token_seconds_count": 1,
        "request_time_per_output_token_seconds_sum": 1.5,
        "request_max_num_generation_tokens_count": 1,
        "request_max_num_generation_tokens_sum": 3,
        "request_params_max_tokens_count": 1,
        "request_params_max_tokens_sum": 50,
    }
    labels = {"model_name": "m", "le": "2.5"}
    assert registry.get_sample_value("vllm:time_per_output_token_seconds_bucket", labels) == 2

"""What the router counts, under the names that vLLM's dashboards read.

Knows: prometheus and the life of a request as its HTTP face sees it.
Does not know: workers, KV caches, or the bus; their owners register more in the same registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_SECONDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
)
_GAPS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)
_LONG = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
FINISHES = ("stop", "length", "abort", "error")
ALIASES = {
    "vllm:time_per_output_token_seconds": "vllm:inter_token_latency_seconds",
    "vllm:request_max_num_generation_tokens": "vllm:request_generation_tokens",
}
"""What other versions of vLLM call the same, and boards made for them still do."""


class Metrics:
    """The instruments of one router; every series carries `model_name`. `queued` says how many sessions wait."""

    def __init__(
        self,
        model_name: str,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = monotonic,
        queued: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self.clock = clock
        self._model = model_name
        self._families: dict[str, Histogram] = {}
        self.open = 0
        running = self._gauge("num_requests_running", "Requests that are being generated")
        running.set_function(lambda: max(0, self.open - queued()))
        self._gauge("num_requests_waiting", "Requests that wait for their turn").set_function(queued)
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens processed")
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated")
        self.cache_queries = self._counter(
            "prefix_cache_queries", "Prompt tokens looked up in the prefix cache"
        )
        self.cache_hits = self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache")
        self.first_token = self._histogram("time_to_first_token_seconds", "Arrival to first token", _SECONDS)
        self.token_gap = self._histogram("inter_token_latency_seconds", "Time between two tokens", _GAPS)
        self.longest_gap = Histogram(
            "xpod_stream_gap_seconds",
            "The longest time between two tokens of a stream",
            ["model_name"],
            registry=self.registry,
            buckets=_GAPS,
        ).labels(model_name)
        self.whole = self._histogram("e2e_request_latency_seconds", "Arrival to last token", _LONG)
        self.queued = self._histogram(
            "request_queue_time_seconds", "Arrival until a worker took the request", _LONG
        )
        self.prefilled = self._histogram(
            "request_prefill_time_seconds", "From there to the first token", _LONG
        )
        self.decoded = self._histogram("request_decode_time_seconds", "First to last token", _LONG)
        self.per_token = self._histogram(
            "request_time_per_output_token_seconds", "First to last token, by tokens after the first", _GAPS
        )
        self.inferred = self._histogram(
            "request_inference_time_seconds", "From a worker's taking it to the last token", _LONG
        )
        self.prompt_size = self._histogram("request_prompt_tokens", "Prompt tokens of a request", _COUNTS)
        self.answer_size = self._histogram(
            "request_generation_tokens", "Generated tokens of a request", _COUNTS
        )
        self.answer_bound = self._histogram(
            "request_params_max_tokens", "Tokens that a request may have at most", _COUNTS
        )
        self._counter("num_preemptions", "Requests that lost their KV to others: none ever does")
        for alias, name in ALIASES.items():
            self.registry.register(_Alias(alias, self._families[name]))
        done = Counter(
            "vllm:request_success",
            "Requests by the way they ended",
            ["model_name", "finished_reason"],
            registry=self.registry,
        )
        self.ended = {reason: done.labels(model_name, reason) for reason in FINISHES}

    def meter(
        self, prompt_tokens: int, max_tokens: int, arrived: float, spend: Callable[[], None] | None = None
    ) -> Meter:
        """Begin to measure one session of a request that arrived at `arrived` on this clock.

        `spend` is told of every token, for whom they count.
        """
        self.answer_bound.observe(max_tokens)
        return Meter(self, prompt_tokens, arrived, spend)

    def load(self) -> int:
        """How many requests are running or waiting."""
        return self.open

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, ["model_name"], registry=self.registry).labels(self._model)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, ["model_name"], registry=self.registry).labels(self._model)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", text, ["model_name"], registry=self.registry, buckets=buckets)
        self._families[f"vllm:{name}"] = family
        return family.labels(self._model)


class _Alias(Collector):
    """A family once more, under another name."""

    def __init__(self, name: str, family: Histogram) -> None:
        self._name, self._family = name, family

    def collect(self) -> Iterator[Metric]:
        for family in self._family.collect():
            same = Metric(self._name, family.documentation, family.type)
            same.samples = [
                each._replace(name=self._name + each.name.removeprefix(family.name))
                for each in family.samples
            ]
            yield same


class Meter:
    """One session's measurements; `end` counts once, whoever calls it first."""

    def __init__(
        self, metrics: Metrics, prompt_tokens: int, arrived: float, spend: Callable[[], None] | None = None
    ) -> None:
        self._metrics = metrics
        self._spend = spend
        self._prompt_tokens = prompt_tokens
        self._arrived = arrived
        self._last = self._longest = self._taken = 0.0
        self._count = 0
        self._open = True
        self.first: float | None = None
        """Seconds from the arrival to the first token; None: it did not come yet."""
        self.whole = 0.0
        """Seconds from the arrival to the end."""
        self.reason = ""
        metrics.open += 1

    def token(self, cached: int, taken: float = 0.0) -> None:
        """One more token; `cached` of the prompt's tokens came from the cache.

        A worker took the request at `taken` on this clock; 0: who knows when.
        """
        now = self._metrics.clock()
        if self._count == 0:
            self._first(now, cached, taken)
        else:
            gap = now - self._last
            self._metrics.token_gap.observe(gap)
            self._longest = max(self._longest, gap)
        self._metrics.generation_tokens.inc()
        if self._spend is not None:
            self._spend()
        self._count += 1
        self._last = now

    @property
    def tokens(self) -> int:
        """Generated so far."""
        return self._count

    def end(self, reason: str) -> None:
        """The session ended with 'stop', 'length', 'abort' or 'error'."""
        if not self._open:
            return
        self._open = False
        self._metrics.open -= 1
        self._metrics.ended[reason].inc()
        self.whole, self.reason = self._metrics.clock() - self._arrived, reason
        self._metrics.whole.observe(self.whole)
        self._metrics.answer_size.observe(self._count)
        if self._count > 1:
            self._metrics.longest_gap.observe(self._longest)
            decoded = self.whole - (self.first or 0.0)
            self._metrics.decoded.observe(decoded)
            self._metrics.per_token.observe(decoded / (self._count - 1))
        if self._taken and self._count:
            self._metrics.inferred.observe(self._arrived + self.whole - self._taken)

    def _first(self, now: float, cached: int, taken: float) -> None:
        metrics = self._metrics
        self.first = now - self._arrived
        if taken >= self._arrived:
            self._taken = taken
            metrics.queued.observe(taken - self._arrived)
            metrics.prefilled.observe(now - taken)
        metrics.first_token.observe(self.first)
        metrics.prompt_tokens.inc(self._prompt_tokens)
        metrics.prompt_size.observe(self._prompt_tokens)
        metrics.cache_queries.inc(self._prompt_tokens)
        metrics.cache_hits.inc(cached)

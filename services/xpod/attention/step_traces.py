"""The spans of a worker's steps: chunks of prompts, some decode steps, and of those that are looked into, the hops.

Knows: which of a step's sequences are traced. Does not know: how a step is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xpod.attention.hop_trace import Fault, HopTrace, Part
from xpod.attention.sequence import Sequence as Running
from xpod_policy.batch import Work
from xpod_policy.step_sampling import StepSampling
from xpod_runtime import span_names as names
from xpod_runtime.trace_context import TraceContext, new_span, within
from xpod_runtime.tracing import Tracer, now_ns


class StepTraces:
    """`every` as in StepSampling; `hops` is for the hop. With `chunks`, all that a step computes is part of prompts."""

    def __init__(self, tracer: Tracer, every: int, *, chunks: bool) -> None:
        self.hops = HopTrace(tracer)
        self._tracer, self._chunks = tracer, chunks
        self._sampling = StepSampling(every)

    def leave(self, id: str) -> None:
        """A sequence takes part in no more steps."""
        self._sampling.leave(id)

    @contextmanager
    def step(self, works: Sequence[Work], sequences: Sequence[Running]) -> Iterator[Part]:
        """While it lasts, the step is computed; what is begun for all of its sequences is for the first one's trace."""
        part = Part()
        traced = [
            (work, context)
            for work, sequence in zip(works, sequences, strict=True)
            if (context := sequence.trace.context) is not None
        ]
        if not traced:
            yield part
            return
        seen = self._sampling.choose([work.id for work, context in traced if context.sampled])
        details = {work.id: context._replace(span=new_span()) for work, context in traced if work.id == seen}
        begin, error = now_ns(), ""
        part.within = next(iter(details.values()), None)
        try:
            with within(traced[0][1]):
                yield part
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            end = now_ns()
            for work, context in traced:
                self._tell(work, context, details.get(work.id), (begin, end, error), len(works))
                self._tell_faults(part.faults, context)

    def _tell(
        self,
        work: Work,
        context: TraceContext,
        detail: TraceContext | None,
        when: tuple[int, int, str],
        sequences: int,
    ) -> None:
        """Steps of one token are too many to tell all of them."""
        begin, end, error = when
        is_chunk = self._chunks or work.count > 1
        if is_chunk or detail is not None or error:
            self._tracer.note(
                names.CHUNK if is_chunk else names.STEP,
                context,
                begin,
                end,
                error=error,
                context=detail,
                detail=not is_chunk,
                tokens=work.count,
                position=work.start,
                sequences=sequences,
            )

    def _tell_faults(self, faults: Sequence[Fault], context: TraceContext) -> None:
        for fault in faults:
            self._tracer.note(
                fault.name,
                context,
                fault.begin,
                fault.end,
                error=fault.error,
                shard=fault.shard,
                layer=fault.layer,
            )

"""The hop: a layer's rows to the expert shards and back.

One ExpertCall a shard and layer, carrying the rows that the shard serves. Because an expert call is a pure
function, a call that fails is simply made again elsewhere. Knows nothing of torch: rows are numpy arrays of
the model's bits. Source: xDeepServe (2508.02520), attention-to-expert and expert-to-attention exchange.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from xpod.common.experts import ExpertDirectory
from xpod_policy.holdings import ShardRows
from xpod_proto import ExpertCall, ExpertReply, Message, Tensor, subjects
from xpod_runtime.bus import Bus
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
Array = npt.NDArray[Any]
RETRY_EVERY = 0.25


class ExpertsUnavailable(XpodError):
    """Nobody holds some expert, and nobody came to hold it in time."""

    code = "experts_unavailable"


class ShardLost(XpodError):
    """The shard's process is gone; whatever it was asked has to be asked elsewhere."""

    code = "shard_lost"


class Hop:
    """The attention side. `call_timeout` bounds one call, `patience` the wait for a missing expert (seconds)."""

    def __init__(
        self,
        bus: Bus,
        pod: str,
        directory: ExpertDirectory,
        dtype: str,
        *,
        call_timeout: float = 10.0,
        patience: float = 30.0,
    ) -> None:
        self._bus = bus
        self._pod = pod
        self._directory = directory
        self._dtype = dtype
        self._call_timeout = call_timeout
        self._patience = patience
        self._waiting: defaultdict[str, set[asyncio.Task[Message]]] = defaultdict(set)
        self._abandoned: set[asyncio.Task[Message]] = set()
        self.calls = 0
        self.retries = 0
        directory.on_lost(self._give_up)

    async def experts(self, layer: int, rows: Array, experts: Array) -> Array:
        """Outputs `[T, K, D]` for `rows` `[T, D]` and their chosen `experts` `[T, K]`. Raises ExpertsUnavailable."""
        out = np.empty((*experts.shape, rows.shape[1]), rows.dtype)
        pending = experts.copy()
        avoid: frozenset[str] = frozenset()
        give_up = math.inf
        while (pending >= 0).any():
            version = self._directory.version
            parts, nobody = self._directory.routing.split(layer, pending, avoid)
            results = await asyncio.gather(*(self._call(layer, rows, part) for part in parts))
            for part, reply in zip(parts, results, strict=True):
                if reply is None:
                    avoid |= {part.shard}
                    self.retries += 1
                else:
                    out[part.token, part.slot] = reply
                    pending[part.token, part.slot] = -1
            if nobody.any():
                now = asyncio.get_running_loop().time()
                give_up = min(give_up, now + self._patience)
                if now >= give_up:
                    raise ExpertsUnavailable(f"nobody serves expert {pending[nobody][0]} of layer {layer}")
                await self._directory.changed(version, RETRY_EVERY)
                avoid = frozenset()
        return out

    async def _request(self, shard: str, call: ExpertCall) -> Message:
        """The shard's answer. Raises what the bus raises, and ShardLost when its process is known to be gone."""
        subject = subjects.mailbox(self._pod, "expert", shard)
        request = asyncio.create_task(self._bus.request(subject, call, timeout=self._call_timeout))
        self._waiting[shard].add(request)
        try:
            return await request
        except asyncio.CancelledError:
            if request in self._abandoned:
                raise ShardLost(f"{shard} is gone") from None
            raise
        finally:
            self._waiting[shard].discard(request)
            self._abandoned.discard(request)

    def _give_up(self, shard: str) -> None:
        """Nobody will answer the calls that this shard has: do not wait for their deadline."""
        for request in self._waiting[shard]:
            self._abandoned.add(request)
            request.cancel()

    async def _call(self, layer: int, rows: Array, part: ShardRows) -> Array | None:
        """One shard's rows; None where the shard did not do its part, whatever the reason."""
        call = ExpertCall(
            layer=layer,
            rows=Tensor.of(rows[part.rows], self._dtype),
            row_of=Tensor.of(part.row_of),
            expert_of=Tensor.of(part.expert_of),
        )
        self.calls += 1
        try:
            reply = await self._request(part.shard, call)
        except XpodError as error:
            log.warning(
                "expert call failed", shard=part.shard, layer=layer, code=error.code, error=str(error)
            )
            return None
        expected = (len(part.token), rows.shape[1])
        if not isinstance(reply, ExpertReply) or (reply.rows.dtype, reply.rows.shape) != (
            self._dtype,
            expected,
        ):
            log.error("expert reply has the wrong form", shard=part.shard, layer=layer)
            return None
        return reply.rows.numpy()

"""What makes a response, how it ended, and what is asked of whoever keeps both.

Knows: that a response follows from its record and the tokens of its session, so that nothing else has to be kept.
Does not know: events, HTTP, or which store there is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from xpod.router.api.engine_protocol import Output
from xpod.router.api.responses.request import ResponsesRequest
from xpod_proto import SamplingSpec

Json = dict[str, Any]
Ended = Literal["completed", "incomplete", "failed", "cancelled"]
PREFIX = "resp_"


@dataclass(frozen=True, slots=True)
class Record:
    """A response as it began: `tenant` may read it, `digest` is that of its request, `created` a Unix time.

    `prompt` and `sampling` make its tokens; `request` says how they are told. `history` are the items that a response
    before it left. One that is not `kept` is gone when its answer is told.
    """

    id: str
    tenant: str
    created: float
    digest: bytes
    prompt: Sequence[int]
    sampling: SamplingSpec
    salt: str
    model: str
    request: ResponsesRequest
    history: Sequence[Json] = ()
    kept: bool = True

    @property
    def name(self) -> str:
        """What all ids of the response have in common."""
        return self.id.removeprefix(PREFIX)

    @property
    def session(self) -> str:
        return f"s{self.name}"

    def body(self) -> bytes:
        """What no other field says, deflated."""
        request = self.request.model_dump(by_alias=True, exclude_unset=True)
        body = {"model": self.model, "request": request, "history": list(self.history)}
        return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), level=1)


def reopened(body: bytes) -> tuple[str, ResponsesRequest, list[Json]]:
    """What `Record.body` says: model, request and history."""
    found = json.loads(zlib.decompress(body))
    return found["model"], ResponsesRequest.model_validate(found["request"]), found["history"]


@dataclass(frozen=True, slots=True)
class End:
    """How a response ended, at which Unix time; `cached` of its prompt's tokens were not computed.

    `code` and `reason` say why one failed.
    """

    status: Ended
    at: float
    cached: int = 0
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a response: with its end, the outputs; `whole` says that none of them is missing."""

    record: Record
    end: End | None = None
    outputs: Sequence[Output] = ()
    whole: bool = False

    @property
    def told(self) -> bool:
        """Is there no more to say? Outputs that are missing are computed again, but not those of a failure."""
        return self.end is not None and (self.whole or self.end.status in ("failed", "cancelled"))


class Shelf(Protocol):
    """Where responses are kept, for `seconds`. Every method raises StoreError where that does not answer."""

    @property
    def seconds(self) -> float: ...

    def fits(self, record: Record) -> bool:
        """Is it small enough to be kept?"""

    async def begin(self, record: Record) -> Kept | None:
        """Keep it; what is kept under its id already, if there is such a thing."""

    async def find(self, id: str) -> Kept | None:
        """What is kept under that id."""

    async def finish(self, record: Record, end: End, outputs: Sequence[Output]) -> Kept:
        """Keep how it ended, unless it was dropped; who says so first is right, and that is what this returns."""

    async def drop(self, id: str) -> None:
        """Forget it."""

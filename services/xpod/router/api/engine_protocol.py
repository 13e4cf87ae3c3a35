"""What the HTTP face asks of whoever generates tokens.

Knows: the shape of an engine and of one session, and how each may fail.
Does not know: workers, the bus, or which engine stands behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xpod_proto import SamplingSpec
from xpod_runtime.errors import XpodError


class NotReady(XpodError):
    """The pod cannot serve now; the text says in one line what is missing."""

    code = "not_ready"


class Overloaded(XpodError):
    """Every slot and the queue are full; try again after `retry_after` seconds."""

    code = "overloaded"

    def __init__(
        self, retry_after: float, message: str = "the pod is at its limit of concurrent requests"
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownMember(XpodError):
    """The pod has no member of that name."""

    code = "unknown_member"


class SessionError(XpodError):
    """A session failed in a way that nothing could mend."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Output:
    """Token `index` of a session (0 is the first). `finish` is '', 'stop' or 'length'; non-empty only at the last.

    `finish == 'stop'` means that this very token is the one that stops: its text is not part of the answer.
    """

    index: int
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a token of a prompt is after those before it, and which are the likeliest."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class KeyReused(XpodError):
    """An Idempotency-Key came with another request than before."""

    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Claim:
    """A session that there may be already: its id, the digest of the request behind it, and where the client is.

    Of the tokens before `start` the client needs no logprobs. One that is `lasting` goes on when its client leaves,
    and is remembered for a while. One that is `fresh` nobody can have yet.
    """

    session: str
    request: bytes = b""
    start: int = 0
    lasting: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Affinity:
    """What ties a session to others: KV is shared with sessions of the same `salt` only, and those of the same
    `conversation` (empty: this one alone) may be sent the same way. Where not all can go at once, tenants go in turn,
    and of a tenant's sessions the lowest `priority` first."""

    salt: str = ""
    conversation: str = ""
    tenant: str = ""
    priority: int = 0


class Session(Protocol):
    """One generation. Iterating gives its outputs in the order of their index and may raise SessionError."""

    @property
    def id(self) -> str: ...

    @property
    def cached_tokens(self) -> int: ...

    @property
    def taken(self) -> float:
        """When the first worker took it (time.monotonic); 0 before, and where another router gave it away."""

    @property
    def recoveries(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[Output]: ...

    @property
    def attached(self) -> bool:
        """Was it there before this request?"""

    async def cancel(self) -> None:
        """Nobody wants the rest: free what the session holds on the workers. Idempotent."""

    async def leave(self) -> None:
        """This client reads no more; others may, and one that lasts goes on alone. Idempotent."""


class Engine(Protocol):
    """What opens sessions."""

    @property
    def model_name(self) -> str: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    @property
    def waiting(self) -> int:
        """Sessions that wait for their turn."""

    def ready(self) -> tuple[bool, str]:
        """Whether the pod can serve, and in one line what is missing where it cannot."""

    def reaches_pod(self) -> bool:
        """Is the rest of the pod in reach? If not, another router may do better."""

    async def open(
        self,
        prompt: list[int],
        sampling: SamplingSpec,
        claim: Claim | None = None,
        affinity: Affinity | None = None,
    ) -> Session:
        """Start a generation, or find the claimed one and go on with it; all outputs are said, from 0 on.

        Those before the claim's start may lack their logprobs. Raises NotReady, Overloaded or KeyReused.
        """

    async def scores(
        self, prompt: list[int], alternatives: int, affinity: Affinity | None = None
    ) -> Sequence[Score]:
        """Of each token of `prompt` but the first. Raises NotReady, SessionError."""

    async def cancel(self, session: str) -> None:
        """End it wherever it runs: whoever reads it gets a SessionError with the code `cancelled`. Idempotent."""

    def status(self) -> dict[str, Any]:
        """The object that `xpod status --json` prints."""

    async def metrics_of(self, member: str) -> str:
        """What a member measures, in Prometheus' text form. Raises UnknownMember; XpodError: it does not answer."""

"""The life of one generation, as its router sees it: events in, instructions out.

    new → prefill → decode → done
    new → follow (another router's) → done

The facts (prompt, parameters, seed, tokens so far) stay here; workers may come and go. Because a token is a
function of those facts alone, a session moves to another worker by being told again under the next epoch, and
a token that arrives twice is dropped, or counted as a divergence if it differs. Knows nothing of subjects,
clocks, or how a worker is chosen.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["new", "prefill", "decode", "follow", "done"]


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token; `finish` is empty, `stop` or `length`; token 0 says how much of the prompt was cached.

    `logprob` None: only the token itself is known.
    """

    index: int
    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    finish: str = ""
    cached: int = 0

    def same_bits(self, other: Token) -> bool:
        """Equal to the bit, logprob included, as far as both are known."""
        if self.logprob is None or other.logprob is None:
            return self.token == other.token
        return (self.token, self.finish, struct.pack("<d", self.logprob)) == (
            other.token,
            other.finish,
            struct.pack("<d", other.logprob),
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Find a worker of this kind and give it the session under `epoch`; then report `assigned` or `unplaced`."""

    kind: Literal["prefill", "decode"]
    epoch: int


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand this token to the client; they come in order, each index once."""

    token: Token


@dataclass(frozen=True, slots=True)
class Ask:
    """Tokens from `start` on are missing: ask `worker` to say them again."""

    worker: str
    start: int


@dataclass(frozen=True, slots=True)
class Release:
    """Tell `worker` that the session is not wanted there under `epoch` or an earlier one."""

    worker: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Diverged:
    """A duplicate of token `index` differs: a broken promise of determinism."""

    index: int
    first: Token
    second: Token


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the client that it cannot be mended."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Every token has been emitted."""


Instruction = Start | Emit | Ask | Release | Diverged | Fail | Finish


@dataclass
class Session:
    """The table. `recoveries` counts how often a worker had to be replaced.

    `max_recoveries` bounds how often that may happen without a new token in between: a session that ends every worker
    it is given to must not end all of them.
    """

    id: str
    max_recoveries: int = 5
    phase: Phase = "new"
    epoch: int = 0
    worker: str | None = None
    cached: int = 0
    recoveries: int = 0
    in_vain: int = 0
    tokens: list[Token] = field(default_factory=list)
    ahead: dict[int, Token] = field(default_factory=dict)
    prefilled: bool = False

    def open(self, known: Sequence[Token] = (), epoch: int = 0) -> list[Instruction]:
        """Begin; or go on behind the tokens that are `known`, under an epoch above any that was given out."""
        assert self.phase == "new"
        self.epoch = epoch
        if not known:
            self.phase = "prefill"
            return [Start("prefill", epoch)]
        self.phase, self.prefilled, self.tokens = "decode", True, list(known)
        self.cached = known[0].cached
        emits = [*map(Emit, self.tokens)]
        if known[-1].finish:
            self.phase = "done"
            return [*emits, Finish()]
        return [*emits, Start("decode", epoch)]

    def follow(self, router: str) -> list[Instruction]:
        """Hear what `router` has generated and generates; go on by ourselves if we lose it."""
        assert self.phase == "new"
        self.phase, self.worker = "follow", router
        return [Ask(router, 0)]

    def assigned(self, epoch: int, worker: str) -> list[Instruction]:
        """A worker accepted the session under `epoch`."""
        if self.phase == "done" or epoch != self.epoch:
            return [Release(worker, epoch)]
        self.worker = worker
        return []

    def unplaced(self, epoch: int, code: str, reason: str) -> list[Instruction]:
        """No worker could be found in time."""
        return [] if self.phase == "done" or epoch != self.epoch else self._fail(code, reason)

    def prefill_done(self, epoch: int, first: Token) -> list[Instruction]:
        """The prompt's KV is stored; `first` is token 0, which may have arrived by itself before."""
        if self.phase != "prefill" or epoch != self.epoch:
            return []
        self.prefilled = True
        return self.token(first)

    def token(self, token: Token) -> list[Instruction]:
        """A token arrived, from whomever and under whatever epoch."""
        if self.phase in ("new", "done") or token.index < 0:
            return []
        known = self.tokens[token.index] if token.index < len(self.tokens) else self.ahead.get(token.index)
        if known is not None:
            if not known.same_bits(token):
                return [Diverged(token.index, known, token), *self._to_decode()]
            if known.logprob is None and token.index < len(self.tokens):
                self.tokens[token.index] = token
            return self._to_decode()
        self.ahead[token.index] = token
        return self._advance()

    def _advance(self) -> list[Instruction]:
        out: list[Instruction] = []
        while (token := self.ahead.pop(len(self.tokens), None)) is not None:
            self.tokens.append(token)
            self.cached += token.cached
            self.in_vain = 0
            out.append(Emit(token))
            if token.finish:
                self.phase = "done"
                return [*out, Finish()]
        if self.ahead and self.worker is not None:
            out.append(Ask(self.worker, len(self.tokens)))
        return out + self._to_decode()

    def _to_decode(self) -> list[Instruction]:
        if self.phase != "prefill" or not self.prefilled or not self.tokens:
            return []
        self.phase, self.worker = "decode", None
        self.epoch += 1
        return [Start("decode", self.epoch)]

    def worker_lost(self, worker: str, reason: str) -> list[Instruction]:
        """A worker died or forgot the session. Others carry on unless it was ours."""
        if self.worker != worker or self.phase == "done":
            return []
        return self._reopen(reason)

    def worker_failed(self, epoch: int, worker: str, code: str, reason: str) -> list[Instruction]:
        """The worker gave the session up by itself: final, except where it only lacks what another may have."""
        if epoch != self.epoch or self.phase == "done":
            return []
        return self._reopen(reason) if code == "draining" else self._fail(code, reason)

    def _reopen(self, reason: str) -> list[Instruction]:
        if self.in_vain >= self.max_recoveries:
            return self._fail("worker_lost", f"gave up after {self.in_vain} recoveries in vain: {reason}")
        self.recoveries += 1
        self.in_vain += 1
        self.epoch += 1
        self.worker = None
        if self.phase == "follow":
            self.phase, self.prefilled = ("decode", True) if self.tokens else ("prefill", False)
        return [Start("prefill" if self.phase == "prefill" else "decode", self.epoch)]

    def silent(self) -> list[Instruction]:
        """Nothing was heard for long: ask the worker again from where we stand."""
        if self.worker is None or self.phase == "done":
            return []
        return [Ask(self.worker, len(self.tokens))]

    def cancel(self) -> list[Instruction]:
        """The client left, or has all that it wanted."""
        if self.phase == "done":
            return []
        followed = self.phase == "follow"
        self.phase = "done"
        return [] if followed else self._release()

    def _fail(self, code: str, reason: str) -> list[Instruction]:
        self.phase = "done"
        return [*self._release(), Fail(code, reason)]

    def _release(self) -> list[Instruction]:
        return [] if self.worker is None else [Release(self.worker, self.epoch)]

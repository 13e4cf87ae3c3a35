"""Which worker a session is offered to, and what was sent to workers since they last told their load.

Brings together what the pure choices need: the pod's view, the prompt tree, and the work that is on its way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

from xpod.common.view import PodView
from xpod.router.counters import Counters
from xpod.router.prompt_tree import PromptTree
from xpod_policy import told
from xpod_policy.block_index import Prefixes
from xpod_policy.blocks import BLOCK_TOKENS, names, salted
from xpod_policy.choose import choose_decode
from xpod_policy.membership import Member
from xpod_policy.routing import Candidate, Routing, route
from xpod_proto import Tensor

NOTHING = Prefixes({}, 0)
STEPS_AHEAD = 2
"""The step that a worker computes, and the next one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A worker, and the work that a session brings it: `amount` are prompt tokens to compute, or KV blocks to reserve.

    `seconds` is what that takes (0: not known), `cached` the prompt tokens that it need not compute.
    """

    member: Member
    amount: int = 0
    seconds: float = 0.0
    cached: int = 0


class Placing:
    """Say `sends` when a place is asked, and `taken` when it takes the session."""

    def __init__(self, view: PodView, tree: PromptTree, routing: Routing, counters: Counters) -> None:
        self._view = view
        self._tree = tree
        self._routing = routing
        self._counters = counters
        self._turns = 0
        self._amounts: defaultdict[str, int] = defaultdict(int)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def holder(self, kind: str, name: str) -> Place | None:
        """The worker of that name, which has the session already."""
        return next((Place(member) for member in self._view.usable(kind) if member.name == name), None)

    def prefill(self, prompt: Tensor, salt: str, conversation: str, avoid: Container[str]) -> Place | None:
        """Who computes a prompt (u32 `[T]`) that shares KV with those of its salt."""
        workers = [member for member in self._view.usable("prefill") if member.name not in avoid]
        candidates = self._candidates(workers, prompt, salt)
        length = prompt.shape[0]
        found = route(self._routing, candidates, length, conversation=conversation, turn=self._turns)
        if found is None:
            return None
        self._turns += 1
        member = next(member for member in workers if member.name == found.name)
        return Place(member, found.tokens, found.seconds, found.cached)

    def uncached(self, prompt: Tensor, salt: str) -> int:
        """Of a prompt, how many tokens whoever computes it would have to compute, as far as we know."""
        length = prompt.shape[0]
        candidates = self._candidates(self._view.usable("prefill"), prompt, salt)
        known = max((max(each.kept, each.pooled) for each in candidates), default=0)
        return length - min(known, length - 1)

    def room(self) -> float:
        """Prompt tokens that keep all prefill workers busy; no bound where none is there."""
        steps = [told.step_tokens(member) for member in self._view.usable("prefill")]
        return STEPS_AHEAD * sum(steps) if steps else math.inf

    def decode(self, blocks: int, avoid: Container[str]) -> Place | None:
        """Who has a slot, and room for so many blocks of KV."""
        member = choose_decode(self._view.usable("decode"), blocks, self._amounts, avoid)
        return None if member is None else Place(member, blocks)

    def sends(self, place: Place) -> None:
        """The session is on its way there: that counts until the worker's next heartbeat."""
        self._amounts[place.member.name] += place.amount
        self._seconds[place.member.name] += place.seconds

    def taken(self, place: Place) -> None:
        """The worker has accepted it."""
        self._counters.routed_prefix.inc(place.cached)

    def heartbeat(self, member: str) -> None:
        """The member's load is fresh: what was sent to it is counted there."""
        self._amounts.pop(member, None)
        self._seconds.pop(member, None)

    def _candidates(self, workers: Sequence[Member], prompt: Tensor, salt: str) -> list[Candidate]:
        matches: dict[bytes | None, Prefixes] = {None: NOTHING}
        found = []
        for worker in workers:
            root = told.root(worker)
            if root is not None and root not in matches:
                matches[root] = self._tree.match(names(salted(root, salt), prompt.data))
            found.append(self._candidate(worker, matches[root], prompt.shape[0]))
        return found

    def _candidate(self, worker: Member, prefixes: Prefixes, length: int) -> Candidate:
        cost = told.prefill_cost(worker)
        tokens = told.number(worker, "queued_tokens") or 0.0
        seconds = told.number(worker, "queued_seconds")
        if seconds is None:
            seconds = 0.0 if cost is None else cost.seconds(int(tokens))
        return Candidate(
            worker.name,
            tokens + self._amounts.get(worker.name, 0),
            seconds + self._seconds.get(worker.name, 0.0),
            kept=min(length, prefixes.held.get(worker.name, 0) * BLOCK_TOKENS),
            pooled=min(length, prefixes.together * BLOCK_TOKENS),
            cost=cost,
            load=told.load_cost(worker),
        )

"""What faults cost in computation: tokens that were computed a second time.

Knows: how much of a session a worker has to compute that somebody had computed before.
Does not know: sessions, blocks, or why a session came here. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpod_policy.blocks import BLOCK_TOKENS
from xpod_proto.messages import Value


@dataclass(slots=True)
class Recomputed:
    """Counts over the life of a process.

    `tokens` were computed before by somebody else. `sessions` came here again, or without their blocks; of these,
    `far` had more than a block to compute. Tokens that a lost worker computed and did not get to say are not counted:
    nobody knows them.
    """

    sessions: int = 0
    tokens: int = 0
    far: int = 0

    def handed_over(self, generated: int, known: int, loaded: int) -> None:
        """A session joins with `known` tokens, `generated` of them not from its prompt; MemPool had `loaded`.

        Its newest token has no keys and values yet: whoever goes on computes that one, with or without a fault.
        """
        again = known - 1 - loaded
        if generated > 1 or again > 0:
            self.sessions += 1
            self.tokens += again
            self.far += again > BLOCK_TOKENS

    def load(self) -> dict[str, Value]:
        """As heartbeats tell it."""
        return {"reopened": self.sessions, "recomputed": self.tokens, "recomputed_far": self.far}

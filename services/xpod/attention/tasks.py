"""From a router's task to a sequence.

Knows: what a task says, and what it may not. Does not know: whether there is room for it.
"""

from __future__ import annotations

from xpod.attention.sequence import Sequence
from xpod_policy.blocks import salted
from xpod_policy.caching import Caching, Naming
from xpod_proto import DecodeTask, PrefillTask, subjects


def sequence_of(task: PrefillTask | DecodeTask, root: bytes, caching: Caching) -> Sequence:
    """Its blocks are named from `root` on. Raises DecodeError where ids of tokens or the router's name are none."""
    subjects.check_token(task.router)
    prompt = task.prompt.token_ids()
    generated = task.generated.token_ids() if isinstance(task, DecodeTask) else []
    naming = Naming(salted(root, task.salt), task.session, len(prompt), caching)
    sequence = Sequence(task.session, task.epoch, task.router, prompt, generated, task.sampling, naming)
    if isinstance(task, PrefillTask):
        sequence.tenant, sequence.priority = task.tenant, task.priority
    return sequence

"""What is computed: attention, gate, experts, sampler, KV cache, checkpoints, and the one-process reference.

It knows a model directory and arithmetic. It knows nothing of buses, sessions, requests or clocks.

Shape letters: T tokens, D hidden, E experts, K experts per token, L layers, B sequences, V vocabulary,
H query heads, G query heads per KV head.

Importing this module, `config`, `checkpoint`, `errors` or `text` does not load torch; the compute modules do.
"""

from xpod_model.checkpoint import Checkpoint
from xpod_model.config import ModelConfig, RopeConfig, load_config
from xpod_model.errors import ModelError

__all__ = ["Checkpoint", "ModelConfig", "ModelError", "RopeConfig", "load_config"]

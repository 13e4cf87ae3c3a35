"""What prefill and decode share: the hop to the experts, the way to MemPool, and the engine that steps a batch."""

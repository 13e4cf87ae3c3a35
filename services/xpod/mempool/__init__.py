"""MemPool nodes: the pod's memory for KV blocks."""

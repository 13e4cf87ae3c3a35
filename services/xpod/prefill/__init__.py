"""Prefill workers: prompts into KV, and the first token."""

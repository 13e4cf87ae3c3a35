"""Decode-attention workers: the running batch of a pod."""

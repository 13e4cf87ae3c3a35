"""`xpod bench`: figures of a server, as a client sees them, and the model to take them with.

Knows: HTTP from outside, checkpoints on disk.
Does not know: the bus, the members of a pod, or torch.
"""

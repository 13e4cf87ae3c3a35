"""The router: the pod's front door. It owns the facts of a session and no part of the model."""

"""How it is said: the bus, actors, supervision, configuration and telemetry.

Knows: messages and subjects (`xpod_proto`), NATS, processes.
Does not know: what is decided (`xpod_policy`), what is computed (`xpod_model`), or any service.
"""

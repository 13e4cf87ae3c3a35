"""Supervisors: they watch the pod and wish which shard should hold which expert."""

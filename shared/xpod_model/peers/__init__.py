"""Engines in one process that a pod is compared with, each a program that is driven over its stdin and stdout."""

"""The demo model: where its checkpoint lies. It knows a path and nothing of torch, training or serving."""

from pathlib import Path

__all__ = ["demo_path"]


def demo_path() -> Path:
    """The folder of the committed checkpoint, beside this file (in a checkout and in a wheel alike)."""
    return Path(__file__).resolve().parent / "checkpoint"

"""The tests' small models, here too."""

from model.conftest import oracle_dirs

__all__ = ["oracle_dirs"]

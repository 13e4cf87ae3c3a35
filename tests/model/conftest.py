"""Oracle checkpoints, written once a session."""

from pathlib import Path

import pytest

from model.oracle_models import make_oracle_models


@pytest.fixture(scope="session")
def oracle_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories by name."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own
        return {path.name: path for path in make_oracle_models(tmp_path_factory.mktemp("oracle"))}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)

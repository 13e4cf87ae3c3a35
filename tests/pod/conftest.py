"""One real nats-server a test, and the oracle checkpoints of the model's tests."""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
import torch

from model.oracle_models import make_oracle_models
from xpod_runtime.testing import running_broker


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Only errors: a pod in one process says everything a dozen times."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As every process of a pod has it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oracle_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random checkpoints by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own
        return {path.name: path for path in make_oracle_models(tmp_path_factory.mktemp("oracle"))}


@pytest_asyncio.fixture
async def nats(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a nats-server of one's own."""
    async with running_broker(tmp_path / "nats", jetstream=True) as broker:
        yield broker.url

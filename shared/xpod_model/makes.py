"""Which make of operations a model is computed with: our own kernels where they fit, torch elsewhere."""

import torch

from xpod_model.config import ModelConfig
from xpod_model.operations import Operations
from xpod_model.own_operations import OwnOperations
from xpod_model.torch_operations import TorchOperations


def operations_for(config: ModelConfig, dtype: torch.dtype, device: str) -> Operations:
    """The operations of one attention half."""
    own = OwnOperations.where_possible(config, dtype, device)
    return TorchOperations(config, dtype, device) if own is None else own

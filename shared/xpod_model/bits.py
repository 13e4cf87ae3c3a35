"""Torch tensors as plain arrays of bits and back, without copying: how rows leave and enter a process.

numpy has no bf16, so a bf16 tensor becomes an array of uint16. Knows nothing of the wire.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_bits(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's elements on the host: bf16 as uint16, anything else as numpy has it."""
    host = tensor.detach().cpu().contiguous()
    array: npt.NDArray[Any] = (host.view(torch.uint16) if host.dtype == torch.bfloat16 else host).numpy()
    return array


def from_bits(array: npt.NDArray[Any], dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """The inverse of `to_bits`; on the CPU it shares memory with a writable `array` and copies a read-only one."""
    tensor = torch.from_numpy(array if array.flags.writeable else np.array(array))
    return (tensor.view(torch.bfloat16) if dtype == torch.bfloat16 else tensor).to(device)

"""Buffers that are kept, and the C library's setting."""

import os
import platform

import pytest
import torch

from xpod_model.memory import KERNELS, KERNELS_VARIABLE, bound_kernels, keep_freed_memory
from xpod_model.scratch import Scratch


def test_a_buffer_is_used_again() -> None:
    scratch = Scratch()
    large = scratch.take("a", (4, 8), torch.float32, "cpu")
    small = scratch.take("a", (2, 3), torch.float32, "cpu")
    assert small.data_ptr() == large.data_ptr()
    assert small.shape == (2, 3)
    assert scratch.take("b", (2, 3), torch.float32, "cpu").data_ptr() != large.data_ptr()


def test_a_buffer_grows_and_changes_type() -> None:
    scratch = Scratch()
    scratch.take("a", (2,), torch.float32, "cpu")
    assert scratch.take("a", (5, 5), torch.float32, "cpu").is_contiguous()
    assert scratch.take("a", (5,), torch.bfloat16, "cpu").dtype == torch.bfloat16


def test_freed_memory_can_be_kept_where_glibc_is() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


def test_kernels_are_bounded_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "7")
    bound_kernels()
    assert os.environ[KERNELS_VARIABLE] == "7"
    monkeypatch.delenv(KERNELS_VARIABLE)
    bound_kernels()
    assert int(os.environ[KERNELS_VARIABLE]) == KERNELS

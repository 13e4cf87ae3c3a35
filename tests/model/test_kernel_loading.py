"""From IR to code in memory: what is not understood is refused, and then torch computes."""

import ctypes

import pytest

from xpod_model.kernels import kernels
from xpod_model.kernels.compiler import compiled
from xpod_model.kernels.elf import Loaded
from xpod_model.kernels.machine import SIGNATURE, supported

ADD = """
@table = internal constant [2 x i64] [i64 40, i64 2]
define void @add(ptr %out) {
  %second = getelementptr [2 x i64], ptr @table, i64 0, i64 1
  %a = load volatile i64, ptr @table
  %b = load volatile i64, ptr %second
  %sum = call i64 @plus(i64 %a, i64 %b)
  store i64 %sum, ptr %out
  ret void
}
define internal i64 @plus(i64 %a, i64 %b) noinline {
  %sum = add i64 %a, %b
  ret i64 %sum
}
"""
OUTSIDE = """
declare void @somewhere()
define void @f(ptr %out) {
  call void @somewhere()
  ret void
}
"""


@pytest.fixture(autouse=True)
def on_amd64() -> None:
    if not supported():
        pytest.xfail("code for another CPU")


def test_code_with_constants_and_calls_runs() -> None:
    code = Loaded(compiled(ADD))
    out = ctypes.c_int64(0)
    SIGNATURE(code.address("add"))(ctypes.addressof(out))
    assert out.value == 42
    with pytest.raises(KeyError):
        code.address("subtract")


def test_a_reference_to_the_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="relocation"):
        Loaded(compiled(OUTSIDE))


@pytest.mark.parametrize("content", [b"", b"nonsense" * 20, b"\x7fELF\x01" + bytes(100)])
def test_what_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="ELF"):
        Loaded(content)


def test_what_does_not_compile_says_why() -> None:
    with pytest.raises(RuntimeError, match="do not compile"):
        compiled("define void @f( {")


def test_without_a_compiler_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def refuse(text: str) -> bytes:
        raise RuntimeError("no compiler")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("xpod_model.kernels.machine.compiled", refuse)
    monkeypatch.delenv("XPOD_KERNELS", raising=False)
    assert kernels.__wrapped__() is None

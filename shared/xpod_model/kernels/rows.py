"""What is done to rows one at a time: norms, sums, and the exponential function that others share.

A row's result depends on that row alone, because a vector's lanes are added up in one fixed order.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import F32, I16, I32, I64, LANES, POINTER, VECTOR, WORDS, Code, kernel

LOG2_E = 1 / math.log(2)
# ln 2 in two parts, of which the first has so few bits that a whole number times it is exact
LN2_HIGH = math.floor(math.log(2) * 2**15) / 2**15
LN2_LOW = math.log(2) - LN2_HIGH
LARGEST = 87.0
TERMS = 8
ROWS_AN_ITEM = 8


def row_items(position: int) -> Callable[[Code, list[Any]], Any]:
    """How many items there are, for a kernel whose argument at `position` is the number of rows."""

    def items(code: Code, values: list[Any]) -> Any:
        more = code.b.add(values[position], code.number(ROWS_AN_ITEM - 1))
        return code.b.sdiv(more, code.number(ROWS_AN_ITEM))

    return items


@contextmanager
def rows_of(code: Code, item: Any, rows: Any) -> Iterator[Any]:
    """A loop over the rows of an item."""
    begin = code.times(item, ROWS_AN_ITEM)
    end = code.minimum(code.b.add(begin, code.number(ROWS_AN_ITEM)), rows)
    with code.loop(begin, end) as row:
        yield row


def exponential(code: Code, x: Any) -> Any:
    """exp of each number, within 2 units of the last place for |x| <= 87, clamped beyond.

    x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by its series, 2ⁿ by writing n into the exponent.
    """
    b = code.b
    x = code.intrinsic("llvm.minnum.v16f32", x, code.splat(LARGEST))
    x = code.intrinsic("llvm.maxnum.v16f32", x, code.splat(-LARGEST))
    n = code.intrinsic("llvm.rint.v16f32", b.fmul(x, code.splat(LOG2_E)))
    minus = b.fsub(code.splat(0.0), n)
    r = code.fma(minus, code.splat(LN2_LOW), code.fma(minus, code.splat(LN2_HIGH), x))
    series = code.splat(1 / math.factorial(TERMS - 1))
    for power in range(TERMS - 2, -1, -1):
        series = code.fma(series, r, code.splat(1 / math.factorial(power)))
    exponent = b.add(b.fptosi(n, WORDS), ir.Constant(WORDS, [127] * LANES))
    return b.fmul(series, b.bitcast(b.shl(exponent, ir.Constant(WORDS, [23] * LANES)), VECTOR))


def add_norm_row(module: ir.Module) -> Any:
    """The function of one row: (x, weight, out, width, eps as its bits): RMSNorm (arXiv 1910.07467).

    Computed in fp32 and rounded before the weight is applied, as transformers does. x and out may be the same.
    """
    code = Code(module, "norm_row", [POINTER, POINTER, POINTER, I64, I64])
    code.function.linkage = "internal"
    b = code.b
    x, weight, out, width, eps = code.arguments
    squares = code.variable(VECTOR, code.splat(0.0))
    with code.loop(code.number(0), width, LANES) as at:
        numbers = code.wide(code.at(x, code.times(at, 2)))
        b.store(code.fma(numbers, numbers, b.load(squares, typ=VECTOR)), squares)
    total = code.folded(b.load(squares, typ=VECTOR), b.fadd)
    variance = b.fadd(b.fdiv(total, b.sitofp(width, F32)), b.bitcast(b.trunc(eps, I32), F32))
    scale = b.fdiv(ir.Constant(F32, 1.0), code.intrinsic("llvm.sqrt.f32", variance))
    scales = code.spread(scale, VECTOR)
    with code.loop(code.number(0), width, LANES) as at:
        offset = code.times(at, 2)
        normal = code.as_bf16(b.fmul(code.wide(code.at(x, offset)), scales))
        code.store(code.rounded(b.fmul(normal, code.wide(code.at(weight, offset)))), code.at(out, offset))
    b.ret_void()
    return code.function


def add_add_norm(module: ir.Module, norm_row: Any) -> None:
    """`add_norm(x, delta, rows, width, weight, eps bits, out)`: x += delta, in place, and out = norm(x) * weight.

    delta may be 0: nothing is added.
    """
    item, arguments = kernel(module, "add_norm", 7, row_items(2))
    index, _, x, delta, rows, width, weight, eps, out = arguments
    b = item.b
    with rows_of(item, index, rows) as at:
        offset = item.times(at, width, 2)
        here = item.address(x, offset)
        with b.if_then(b.icmp_signed("!=", delta, item.number(0))):
            add_rows(item, here, item.address(delta, offset), width)
        b.call(norm_row, [here, item.address(weight), item.address(out, offset), width, eps])
    b.ret_void()


def add_rows(code: Code, x: Any, delta: Any, width: Any) -> None:
    """x += delta for one row."""
    with code.loop(code.number(0), width, LANES) as at:
        offset = code.times(at, 2)
        there = code.at(x, offset)
        code.store(code.rounded(code.b.fadd(code.wide(there), code.wide(code.at(delta, offset)))), there)


def add_combine(module: ir.Module) -> None:
    """`combine(outputs, weights, rows, k, width, out)`: the weighted sum of each row's k rows, in order, in fp32.

    outputs [rows, k, width], weights [rows, k]; rounded once, when it is written.
    """
    item, (index, _, outputs, weights, rows, k, width, out) = kernel(module, "combine", 6, row_items(2))
    b = item.b
    with rows_of(item, index, rows) as row:
        first = item.address(outputs, item.times(row, k, width, 2))
        factors = item.address(weights, item.times(row, k, 2))
        there = item.address(out, item.times(row, width, 2))
        with item.loop(item.number(0), width, LANES) as at:
            total = item.variable(VECTOR, item.splat(0.0))
            with item.loop(item.number(0), k) as slot:
                factor = item.spread(number(item, item.at(factors, item.times(slot, 2))), VECTOR)
                numbers = item.wide(item.at(first, item.times(slot, width, 2), item.times(at, 2)))
                b.store(item.fma(factor, numbers, b.load(total, typ=VECTOR)), total)
            item.store(item.rounded(b.load(total, typ=VECTOR)), item.at(there, item.times(at, 2)))
    b.ret_void()


def number(code: Code, address: Any) -> Any:
    """One bf16 number as fp32."""
    bits = code.b.shl(code.b.zext(code.load(I16, address), I32), ir.Constant(I32, 16))
    return code.b.bitcast(bits, F32)

"""Gated MLPs over few rows each, one after the other, without leaving native code; and their activation.

The activation is ours in every call, for many rows too, so that its bits do not depend on the number of rows.
"""

import math
from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import I32, I64, LANES, POINTER, VECTOR, WORDS, Code, kernel
from xpod_model.kernels.product import PANEL

LOG2_E = 1 / math.log(2)
# ln 2 in two parts, of which the first has so few bits that a whole number times it is exact
LN2_HIGH = math.floor(math.log(2) * 2**15) / 2**15
LN2_LOW = math.log(2) - LN2_HIGH
LARGEST = 87.0
TERMS = 8


def add_silu_mul(module: ir.Module) -> Any:
    """`silu_mul(counter, gate_up, rows, width, out)`: rows of [2 * width] -> [width]; an item is 8 rows.

    Returns the function of one row: (gate, up, out, width).
    """
    row = _silu_row(module)
    item, (index, gate_up, rows, width, out) = kernel(
        module,
        "silu_mul",
        5,
        lambda code, values: code.b.sdiv(code.b.add(values[2], code.number(7)), code.number(8)),
    )
    b = item.b
    begin = b.mul(index, item.number(8))
    with item.loop(begin, item.minimum(b.add(begin, item.number(8)), rows)) as at:
        gate = item.at(b.inttoptr(gate_up, POINTER), b.mul(at, b.mul(width, item.number(4))))
        up = item.at(gate, b.mul(width, item.number(2)))
        there = item.at(b.inttoptr(out, POINTER), b.mul(at, b.mul(width, item.number(2))))
        b.call(row, [gate, up, there, width])
    b.ret_void()
    return row


def _silu_row(module: ir.Module) -> Any:
    code = Code(module, "silu_row", [POINTER, POINTER, POINTER, I64])
    code.function.linkage = "internal"
    b = code.b
    gate, up, out, width = code.arguments
    with code.loop(code.number(0), width, LANES) as at:
        offset = b.mul(at, code.number(2))
        x = code.wide(code.at(gate, offset))
        one = code.splat(1.0)
        silu = b.fdiv(x, b.fadd(one, exponential(code, b.fsub(code.splat(0.0), x))))
        product = b.fmul(code.as_bf16(silu), code.wide(code.at(up, offset)))
        code.store(code.rounded(product), code.at(out, offset))
    b.ret_void()
    return code.function


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


def add_experts(module: ir.Module, panel: Any, silu_row: Any) -> None:
    """`experts(counter, count, table, rows, row_of, hidden, width, blocks..., gathered, middle, active, out)`.

    An item is one expert. `table` [count, 4] int64: where its pairs begin and end, its two packed weights. It takes
    rows row_of[begin:end] of `rows` [R, hidden], and writes out[begin:end]. `gathered` [P, hidden], `middle` [P, 2 *
    width] and `active` [P, width] are scratch.
    """
    item, arguments = kernel(module, "experts", 13, lambda code, values: values[1])
    b = item.b
    index, _, table, rows, row_of, hidden, width, hidden_block, width_block, *places = arguments
    gathered, middle, active, out = (b.inttoptr(place, POINTER) for place in places)
    entry = item.at(b.inttoptr(table, POINTER), b.mul(index, item.number(32)))
    begin, end = item.load(I64, entry), item.load(I64, item.at(entry, 8))
    gate_up, down = (b.inttoptr(item.load(I64, item.at(entry, at)), POINTER) for at in (16, 24))
    count = b.sub(end, begin)
    row_bytes, width_bytes = b.mul(hidden, item.number(2)), b.mul(width, item.number(2))
    gathered, out = (item.at(place, b.mul(begin, row_bytes)) for place in (gathered, out))
    middle = item.at(middle, b.mul(begin, b.mul(width_bytes, item.number(2))))
    active = item.at(active, b.mul(begin, width_bytes))
    with item.loop(item.number(0), count) as at:
        which = item.load(I32, item.at(b.inttoptr(row_of, POINTER), b.mul(b.add(begin, at), item.number(4))))
        source = item.at(b.inttoptr(rows, POINTER), b.mul(b.sext(which, I64), row_bytes))
        target = item.at(gathered, b.mul(at, row_bytes))
        with item.loop(item.number(0), row_bytes, 64) as byte:
            item.store(item.load(WORDS, item.at(source, byte)), item.at(target, byte))
    both = b.mul(width, item.number(2))
    _panels(item, panel, gathered, count, k=hidden, block=hidden_block, weight=gate_up, out=middle, n=both)
    with item.loop(item.number(0), count) as at:
        gate = item.at(middle, b.mul(at, b.mul(width_bytes, item.number(2))))
        b.call(silu_row, [gate, item.at(gate, width_bytes), item.at(active, b.mul(at, width_bytes)), width])
    _panels(item, panel, active, count, k=width, block=width_block, weight=down, out=out, n=hidden)
    b.ret_void()


def _panels(
    code: Code, panel: Any, x: Any, rows: Any, *, k: Any, block: Any, weight: Any, out: Any, n: Any
) -> None:
    """x [rows, k] times all panels of a weight [n, k] -> out [rows, n]."""
    b = code.b
    panel_bytes = b.mul(k, code.number(2 * PANEL))
    with code.loop(code.number(0), b.sdiv(n, code.number(PANEL))) as at:
        here = code.at(weight, b.mul(at, panel_bytes))
        there = code.at(out, b.mul(at, code.number(2 * PANEL)))
        b.call(panel, [x, rows, k, block, here, there, b.mul(n, code.number(2))])

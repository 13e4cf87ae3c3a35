"""Gated MLPs over few rows each, one after the other, without leaving native code; and their activation.

The activation is ours in every call, for many rows too, so that its bits do not depend on the number of rows.
"""

from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import I32, I64, LANES, POINTER, WORDS, Code, kernel
from xpod_model.kernels.product import PANEL
from xpod_model.kernels.rows import exponential, row_items, rows_of


def add_silu_mul(module: ir.Module) -> Any:
    """`silu_mul(gate_up, rows, width, out)`: rows of [2 * width] -> [width]; an item is ROWS_AN_ITEM rows.

    Returns the function of one row: (gate, up, out, width).
    """
    row = _silu_row(module)
    item, (index, _, gate_up, rows, width, out) = kernel(module, "silu_mul", 4, row_items(1))
    with rows_of(item, index, rows) as at:
        gate = item.address(gate_up, item.times(at, width, 4))
        there = item.address(out, item.times(at, width, 2))
        item.b.call(row, [gate, item.at(gate, item.times(width, 2)), there, width])
    item.b.ret_void()
    return row


def _silu_row(module: ir.Module) -> Any:
    code = Code(module, "silu_row", [POINTER, POINTER, POINTER, I64])
    code.function.linkage = "internal"
    b = code.b
    gate, up, out, width = code.arguments
    with code.loop(code.number(0), width, LANES) as at:
        offset = code.times(at, 2)
        x = code.wide(code.at(gate, offset))
        one = code.splat(1.0)
        silu = b.fdiv(x, b.fadd(one, exponential(code, b.fsub(code.splat(0.0), x))))
        product = b.fmul(code.as_bf16(silu), code.wide(code.at(up, offset)))
        code.store(code.rounded(product), code.at(out, offset))
    b.ret_void()
    return code.function


# what `serve` finds in the pairs; 0: they were computed
NO_SUCH, NOT_SORTED, NOT_OURS, MANY = 1, 2, 4, 8
SERVE_ARGUMENTS = 2
# where rows, row_of, expert_of and out stand among the arguments of `experts`
SERVED = (5, 6, 4, 14)
"""How many arguments `serve` has before those of `experts`."""


def add_serve(module: ir.Module) -> None:
    """`serve([status, R, the whole array of experts], rows, row_of, expert_of, out)`: checks all pairs, then computes.

    The addresses are written into the array, and so is status: NO_SUCH row or expert, or else any of NOT_SORTED,
    NOT_OURS (the expert's weights are 0) and MANY pairs for one expert; nothing is computed then.
    """
    code = Code(module, "serve", [POINTER] * 5)
    b = code.b
    base, *given = code.arguments
    rest = code.at(base, 8 * SERVE_ARGUMENTS)
    for place, address in zip(SERVED, given, strict=True):
        code.store(b.ptrtoint(address, I64), code.at(rest, 8 * (2 + place)))
    rows = code.load(I64, code.at(base, 8))
    places = [code.load(I64, code.at(rest, 8 * (2 + i))) for i in range(7)]
    count, weights, few, pairs, expert_of, _, row_of = places
    status, before, run = (code.variable(I64, code.number(value)) for value in (0, -1, 0))
    with code.loop(code.number(0), pairs) as at:
        expert, row = (
            b.sext(code.load(I32, code.address(list_of, code.times(at, 4))), I64)
            for list_of in (expert_of, row_of)
        )
        exists = b.and_(b.icmp_unsigned("<", expert, count), b.icmp_unsigned("<", row, rows))
        safe = b.select(exists, expert, code.number(0))
        held = b.icmp_signed(
            "!=", code.load(I64, code.address(weights, code.times(safe, 16))), code.number(0)
        )
        last = b.load(before, typ=I64)
        same = b.icmp_signed("==", expert, last)
        length = b.select(same, b.add(b.load(run, typ=I64), code.number(1)), code.number(1))
        found = b.load(status, typ=I64)
        for fine, flag in (
            (exists, NO_SUCH),
            (b.icmp_signed(">=", expert, last), NOT_SORTED),
            (held, NOT_OURS),
            (b.icmp_signed("<=", length, few), MANY),
        ):
            found = b.or_(found, b.select(fine, code.number(0), code.number(flag)))
        b.store(found, status)
        b.store(expert, before)
        b.store(length, run)
    found = b.load(status, typ=I64)
    code.store(found, base)
    with b.if_then(b.icmp_signed("==", found, code.number(0))):
        b.call(module.globals["experts"], [rest])
    b.ret_void()


def add_experts(module: ir.Module, panel: Any, silu_row: Any) -> None:
    """`experts(count, weights, few, pairs, expert_of, rows, row_of, hidden, width, their blocks of K, scratch…, out)`.

    An item is one expert. `weights` [count, 2] int64: its packed weights' addresses, or 0 for experts to leave out;
    left out is also who has more than `few` pairs. Pairs are sorted by `expert_of` [pairs]; pair p takes row row_of[p]
    of `rows` [R, hidden] and writes out[p]. Scratch: [pairs, hidden], [pairs, 2 * width], [pairs, width].
    """
    item, arguments = kernel(module, "experts", 15, lambda _, values: values[0])
    index, _, _, weights, few, pairs, expert_of, rows, row_of, *rest = arguments
    hidden, width, hidden_block, width_block, *places = rest
    b = item.b
    entry = item.address(weights, item.times(index, 16))
    gate_up, down = (item.load(I64, item.at(entry, at)) for at in (0, 8))
    list_of = item.address(expert_of)
    begin, end = (
        _first(item, list_of, pairs, index),
        _first(item, list_of, pairs, b.add(index, item.number(1))),
    )
    size = b.sub(end, begin)
    wanted = b.and_(b.icmp_signed(">", size, item.number(0)), b.icmp_signed("<=", size, few))
    with b.if_then(b.and_(wanted, b.icmp_signed("!=", gate_up, item.number(0)))):
        gate_up, down = item.address(gate_up), item.address(down)
        count = size
        row, half = item.times(hidden, 2), item.times(width, 2)
        bytes_each = (row, item.times(half, 2), half, row)
        gathered, middle, active, out = (
            item.address(place, item.times(begin, each))
            for place, each in zip(places, bytes_each, strict=True)
        )
        with item.loop(item.number(0), count) as at:
            which = item.load(I32, item.address(row_of, item.times(b.add(begin, at), 4)))
            source = item.address(rows, item.times(b.sext(which, I64), row))
            _copy(item, source, item.at(gathered, item.times(at, row)), row)
        both = item.times(width, 2)
        _panels(
            item, panel, gathered, count, k=hidden, block=hidden_block, weight=gate_up, out=middle, n=both
        )
        with item.loop(item.number(0), count) as at:
            gate = item.at(middle, item.times(at, half, 2))
            b.call(silu_row, [gate, item.at(gate, half), item.at(active, item.times(at, half)), width])
        _panels(item, panel, active, count, k=width, block=width_block, weight=down, out=out, n=hidden)
    b.ret_void()


def _first(code: Code, list_of: Any, length: Any, wanted: Any) -> Any:
    """Where the first of `length` sorted int32 lies that is not below `wanted`: halving what is left."""
    b = code.b
    low, high = code.variable(I64, code.number(0)), code.variable(I64, length)
    with code.loop(code.number(0), code.number(32)):
        left, right = b.load(low, typ=I64), b.load(high, typ=I64)
        middle = b.ashr(b.add(left, right), code.number(1))
        with b.if_then(b.icmp_signed("<", left, right)):
            found = b.sext(code.load(I32, code.at(list_of, code.times(middle, 4))), I64)
            below = b.icmp_signed("<", found, wanted)
            b.store(b.select(below, b.add(middle, code.number(1)), left), low)
            b.store(b.select(below, right, middle), high)
    return b.load(low, typ=I64)


def _copy(code: Code, source: Any, target: Any, size: Any) -> None:
    with code.loop(code.number(0), size, 64) as at:
        code.store(code.load(WORDS, code.at(source, at)), code.at(target, at))


def _panels(
    code: Code, panel: Any, x: Any, rows: Any, *, k: Any, block: Any, weight: Any, out: Any, n: Any
) -> None:
    """x [rows, k] times all panels of a weight [n, k] -> out [rows, n]."""
    with code.loop(code.number(0), code.b.sdiv(n, code.number(PANEL))) as at:
        here = code.at(weight, code.times(at, k, 2 * PANEL))
        there = code.at(out, code.times(at, 2 * PANEL))
        code.b.call(panel, [x, rows, k, block, here, there, code.times(n, 2)])

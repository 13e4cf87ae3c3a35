"""The gate's choice: softmax over a row's logits, the K largest in order, ties to the lower index, their weights."""

import math

from llvmlite import ir

from xpod_model.kernels.code import F32, I64, LANES, VECTOR, kernel
from xpod_model.kernels.rows import exponential, row_items, rows_of

MOST_EXPERTS, MOST_CHOSEN = 1024, 16


def add_choose(module: ir.Module) -> None:
    """`choose(logits, columns, rows, experts, k, normalise, chosen, weights)`.

    logits [rows, columns] of which the first `experts` (a multiple of 16, up to 1024) count; chosen [rows, k] int64,
    weights [rows, k], rounded once; k <= 16. normalise: the weights of a row add up to one, added in slot order.
    """
    item, (index, _, logits, columns, rows, experts, k, normalise, chosen, weights) = kernel(
        module, "choose", 8, row_items(2)
    )
    b = item.b
    nothing = item.splat(-math.inf)
    local, best = item.room(ir.ArrayType(VECTOR, MOST_EXPERTS // LANES)), item.room(VECTOR)
    most, total, high, which = (item.room(kind) for kind in (VECTOR, VECTOR, F32, I64))
    with rows_of(item, index, rows) as row:
        b.store(nothing, most)
        with item.loop(item.number(0), experts, LANES) as at:
            x = item.wide(item.address(logits, item.times(row, columns, 2), item.times(at, 2)))
            item.store(x, item.at(local, item.times(at, 4)))
            b.store(item.intrinsic("llvm.maxnum.v16f32", b.load(most, typ=VECTOR), x), most)
        larger = lambda x, y: item.intrinsic("llvm.maxnum.v16f32", x, y)  # noqa: E731
        top = item.spread(item.folded(b.load(most, typ=VECTOR), larger), VECTOR)
        b.store(item.splat(0.0), total)
        with item.loop(item.number(0), experts, LANES) as at:
            power = exponential(item, b.fsub(item.load(VECTOR, item.at(local, item.times(at, 4))), top))
            b.store(b.fadd(b.load(total, typ=VECTOR), power), total)
        b.store(nothing, best)
        with item.loop(item.number(0), k) as slot:
            b.store(ir.Constant(F32, -math.inf), high)
            b.store(item.number(0), which)
            with item.loop(item.number(0), experts) as at:
                x = item.load(F32, item.at(local, item.times(at, 4)))
                with b.if_then(b.fcmp_ordered(">", x, b.load(high, typ=F32))):
                    b.store(x, high)
                    b.store(at, which)
            found = b.load(which, typ=I64)
            item.store(b.load(high, typ=F32), item.at(best, item.times(slot, 4)))
            item.store(ir.Constant(F32, -math.inf), item.at(local, item.times(found, 4)))
            item.store(found, item.address(chosen, item.times(b.add(item.times(row, k), slot), 8)))
        powers = exponential(item, b.fsub(b.load(best, typ=VECTOR), top))
        b.store(powers, best)
        b.store(ir.Constant(F32, 0.0), high)
        with item.loop(item.number(0), k) as slot:
            x = item.load(F32, item.at(best, item.times(slot, 4)))
            b.store(b.fadd(b.load(high, typ=F32), x), high)
        everything = item.folded(b.load(total, typ=VECTOR), b.fadd)
        own = b.icmp_signed("!=", normalise, item.number(0))
        whole = b.select(own, b.load(high, typ=F32), everything)
        shares = item.rounded(b.fdiv(b.load(best, typ=VECTOR), item.spread(whole, VECTOR)))
        bits = b.bitcast(shares, ir.VectorType(ir.IntType(16), LANES))
        with item.loop(item.number(0), k) as slot:
            share = b.extract_element(bits, b.trunc(slot, ir.IntType(32)))
            item.store(share, item.address(weights, item.times(b.add(item.times(row, k), slot), 2)))
    b.ret_void()

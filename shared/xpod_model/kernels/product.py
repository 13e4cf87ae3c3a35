"""Rows times a packed weight, for few rows: the weight is read once, as fast as memory gives it.

It reads oneDNN's own packing of a bf16 weight [N, K]: panels of 64 outputs, each [K / 2, 64, 2], so that a vector holds
two terms of 16 outputs. Terms are added as oneDNN adds them on AVX-512 bf16: pairs in order, within blocks of K whose
sums are added in order, all in fp32. So a row has the bits that oneDNN gives it in a call of any number of rows.
"""

from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import BF16_PAIRS, I32, I64, LANES, POINTER, VECTOR, WORDS, Code, kernel

PANEL = 64
VECTORS = PANEL // LANES
# accumulators for so many rows fill 24 of the 32 vector registers
ROWS = 6
# measured: weights come 10 % faster than with the hardware's own prefetching alone
AHEAD = 4096


def add_product(module: ir.Module) -> Any:
    """`product(x, rows, K, block, weight, panels, out, out_row)`: out[rows, :] = x Wᵀ; an item is a panel.

    `block` is how many of K are summed apart; `out_row` the bytes between rows of out. Returns the function of one
    panel: (x, rows, K, block, panel of the weight, out, out_row).
    """
    panel = _panel(module)
    item, arguments = kernel(module, "product", 8, lambda _, values: values[5])
    index, _, x, rows, k, block, weight, _, out, out_row = arguments
    here = item.address(weight, item.times(index, k, 2 * PANEL))
    there = item.address(out, item.times(index, 2 * PANEL))
    item.b.call(panel, [item.address(x), rows, k, block, here, there, out_row])
    item.b.ret_void()
    return panel


def _panel(module: ir.Module) -> Any:
    """All rows times one panel, in chunks of nearly the same size."""
    chunks = [_chunk(module, rows) for rows in range(1, ROWS + 1)]
    code = Code(module, "panel", [POINTER, I64, I64, I64, POINTER, POINTER, I64])
    code.function.linkage = "internal"
    b = code.b
    x, rows, k, block, weight, out, out_row = code.arguments
    x_row = code.times(k, 2)
    parts = b.sdiv(b.add(rows, code.number(ROWS - 1)), code.number(ROWS))
    done = code.variable(I64, code.number(0))
    with code.loop(code.number(0), parts) as part:
        begin = b.load(done, typ=I64)
        left = b.sub(parts, part)
        size = b.sdiv(b.sub(b.add(b.sub(rows, begin), left), code.number(1)), left)
        b.store(b.add(begin, size), done)
        x_here, out_here = code.at(x, b.mul(begin, x_row)), code.at(out, b.mul(begin, out_row))
        end = code.function.append_basic_block()
        choice = b.switch(size, end)
        for count, chunk in enumerate(chunks, start=1):
            block_of = code.function.append_basic_block()
            choice.add_case(code.number(count), block_of)
            b.position_at_end(block_of)
            b.call(chunk, [x_here, x_row, k, block, weight, out_here, out_row])
            b.branch(end)
        b.position_at_end(end)
    b.ret_void()
    return code.function


def _chunk(module: ir.Module, rows: int) -> Any:
    """`rows` rows (a constant) times one panel: sums stay in registers for a block of K, and in `total` between."""
    code = Code(module, f"panel{rows}", [POINTER, I64, I64, I64, POINTER, POINTER, I64])
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    b = code.b
    x, x_row, k, block, weight, out, out_row = code.arguments
    places = [(row, vector) for row in range(rows) for vector in range(VECTORS)]
    zero = code.splat(0.0)
    total = {place: code.variable(VECTOR, zero) for place in places}
    blocks = b.sdiv(b.sub(b.add(k, block), code.number(1)), block)
    with code.loop(code.number(0), blocks) as nth:
        begin = b.mul(nth, block)
        end = code.minimum(b.add(begin, block), k)
        sums = {place: code.variable(VECTOR, zero) for place in places}
        with code.loop(begin, end, 2) as term:
            here = code.at(weight, code.times(term, 2 * PANEL))
            for vector in range(VECTORS):
                code.prefetch(code.at(here, AHEAD + 64 * vector))
            weights = [code.load(BF16_PAIRS, code.at(here, 64 * vector)) for vector in range(VECTORS)]
            for row in range(rows):
                pair = code.load(I32, code.at(x, code.times(x_row, row), code.times(term, 2)))
                pairs = b.bitcast(code.spread(pair, WORDS), BF16_PAIRS)
                for vector in range(VECTORS):
                    place = sums[row, vector]
                    b.store(_dot(code, b.load(place, typ=VECTOR), pairs, weights[vector]), place)
        first = b.icmp_signed("==", nth, code.number(0))
        for place in places:
            here_, before = b.load(sums[place], typ=VECTOR), b.load(total[place], typ=VECTOR)
            b.store(b.select(first, here_, b.fadd(before, here_)), total[place])
    for row, vector in places:
        there = code.at(out, code.times(out_row, row), 2 * LANES * vector)
        code.store(code.rounded(b.load(total[row, vector], typ=VECTOR)), there)
    b.ret_void()
    return code.function


def _dot(code: Code, sums: Any, pairs: Any, weights: Any) -> Any:
    return code.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", sums, pairs, weights)

"""Causal attention straight from the paged cache, for one query or a chunk of them: the same code, so the same bits.

A row is a query of one head. Its scores stand all in memory before the softmax, in fp32; keys are walked in order,
so that a row depends on its own query and the keys up to its position, and on nothing that shares the call. Keys are
turned once an item, 16 at a time, so that a vector holds the same two dimensions of 16 keys.
"""

import math
from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import (
    BF16_PAIRS,
    F32,
    I32,
    I64,
    LANES,
    POINTER,
    VECTOR,
    WORDS,
    Code,
    kernel,
)
from xpod_model.kernels.rows import exponential

BLOCK = 16
"""Tokens of a cache block, and keys of a vector."""
WIDTH_STEP = 32
PIECE_FIELDS = 4
# scores of two blocks for so many rows are 8 chains of products, which hides their latency
ROWS = 4
STRIDE = 2


def add_attend(module: ir.Module) -> None:
    """`attend(count, pieces, kv_heads, group, width, q, out, cache, plane, scale bits, scratch, scratch_bytes)`.

    An item is one KV head of one piece: queries that follow one another in one sequence. pieces [count, 4] int64: its
    first row in q, how many, the position of the first, the address of the sequence's block table (int64). q and
    out [T, kv_heads * group, width]. scratch_bytes: what a thread has, see `scratch_bytes`.
    """
    turn, heads = _turn(module), [_rows(module, rows) for rows in range(1, ROWS + 1)]
    item, arguments = kernel(module, "attend", 12, lambda code, values: code.times(values[0], values[2]))
    index, thread, _, pieces, kv_heads, group, width, q, out, cache, plane, scale, scratch, size = arguments
    b = item.b
    head = b.srem(index, kv_heads)
    piece = item.address(pieces, item.times(b.sdiv(index, kv_heads), 8 * PIECE_FIELDS))
    first, count, start = (item.load(I64, item.at(piece, 8 * i)) for i in range(3))
    table = item.address(item.load(I64, item.at(piece, 24)))
    keys_plane = item.address(cache, item.times(head, plane))
    values_plane = item.address(cache, item.times(b.add(kv_heads, head), plane))
    total = b.add(start, count)
    blocks = b.sdiv(b.add(total, item.number(BLOCK - 1)), item.number(BLOCK))
    turned = item.address(scratch, item.times(thread, size))
    row = item.times(width, 2)
    block_bytes = item.times(row, BLOCK)
    with item.loop(item.number(0), blocks) as at:
        source = item.at(
            keys_plane, item.times(item.load(I64, item.at(table, item.times(at, 8))), block_bytes)
        )
        b.call(turn, [source, width, item.at(turned, item.times(at, block_bytes))])
    scores = item.at(turned, item.times(b.add(blocks, item.number(1)), block_bytes))
    with item.loop(item.number(0), count) as query:
        keys = b.add(b.add(start, query), item.number(1))
        place = item.times(b.add(first, query), kv_heads, group, row)
        with item.loop(item.number(0), group, ROWS) as member:
            here = b.add(place, item.times(b.add(item.times(head, group), member), row))
            left = item.minimum(b.sub(group, member), item.number(ROWS))
            end = item.function.append_basic_block()
            choice = b.switch(left, end)
            for rows, function in enumerate(heads, start=1):
                case = item.function.append_basic_block()
                choice.add_case(item.number(rows), case)
                b.position_at_end(case)
                there = item.address(out, here)
                b.call(
                    function,
                    [item.address(q, here), turned, keys, width, scale, scores, values_plane, table, there],
                )
                b.branch(end)
            b.position_at_end(end)
    b.ret_void()


def scratch_bytes(keys: int, width: int) -> int:
    """What a thread needs for pieces whose last query sees at most `keys` keys."""
    blocks = -(-keys // BLOCK) + 2
    return blocks * BLOCK * (2 * width + 4 * ROWS)


def _turn(module: ir.Module) -> Any:
    """A block's keys [16, width] -> [width / 2, 16, 2]: (keys, width, out)."""
    code = Code(module, "turn", [POINTER, I64, POINTER])
    code.function.linkage = "internal"
    keys, width, out = code.arguments
    row = code.times(width, 2)
    with code.loop(code.number(0), row, 64) as at:
        rows = [code.load(WORDS, code.at(keys, code.times(row, token), at)) for token in range(BLOCK)]
        for pair, vector in enumerate(_transposed(code, rows)):
            code.store(vector, code.at(out, code.times(at, BLOCK), 64 * pair))
    code.b.ret_void()
    return code.function


def _transposed(code: Code, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 words: quarter by quarter, ever smaller squares off the diagonal change places."""
    for step in (8, 4, 2, 1):
        for i in range(LANES):
            if i & step:
                continue
            a, b = rows[i], rows[i + step]
            upper = [lane if not lane & step else LANES + lane - step for lane in range(LANES)]
            lower = [lane + step if not lane & step else LANES + lane for lane in range(LANES)]
            rows[i], rows[i + step] = code.shuffle(a, b, upper), code.shuffle(a, b, lower)
    return rows


def _rows(module: ir.Module, rows: int) -> Any:
    """Queries of `rows` heads of one position, side by side, that share a KV head.

    (q, turned keys, number of keys, width, scale bits, scores, plane of values, block table, out)
    """
    kinds = [POINTER, POINTER, I64, I64, I64, POINTER, POINTER, POINTER, POINTER]
    code = Code(module, f"attend{rows}", kinds)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    b = code.b
    q, turned, keys, width, scale, scores, values, table, out = code.arguments
    vectors = b.sdiv(b.add(keys, code.number(BLOCK - 1)), code.number(BLOCK))
    length = code.times(b.add(vectors, code.number(1)), 4 * BLOCK)
    places = [code.at(scores, code.times(length, row)) for row in range(rows)]
    scales = code.spread(b.bitcast(b.trunc(scale, I32), F32), VECTOR)
    most = _score(code, places, q=q, turned=turned, width=width, keys=keys, vectors=vectors, scales=scales)
    inverse = [_soften(code, place, vectors, top) for place, top in zip(places, most, strict=True)]
    with code.loop(code.number(0), width, WIDTH_STEP) as column:
        sums = _weigh(
            code,
            places,
            keys=keys,
            vectors=vectors,
            width=width,
            values=values,
            table=table,
            column=column,
        )
        for row in range(rows):
            for part, total in enumerate(sums[row]):
                result = b.fmul(b.load(total, typ=VECTOR), inverse[row])
                there = code.at(out, code.times(width, 2 * row), code.times(column, 2), 32 * part)
                code.store(code.rounded(result), there)
    b.ret_void()
    return code.function


def _score(
    code: Code, places: list[Any], *, q: Any, turned: Any, width: Any, keys: Any, vectors: Any, scales: Any
) -> list[Any]:
    """Scaled scores into `places`, minus infinity where there is no key; returns each row's highest, spread."""
    b = code.b
    nothing = code.splat(-math.inf)
    most = [code.variable(VECTOR, nothing) for _ in places]
    lanes = ir.Constant(WORDS, list(range(LANES)))
    limit = code.spread(b.trunc(keys, I32), WORDS)
    with code.loop(code.number(0), vectors, STRIDE) as at:
        sums = {
            (row, part): code.variable(VECTOR, code.splat(0.0))
            for row in range(len(places))
            for part in range(STRIDE)
        }
        here = code.at(turned, code.times(at, width, 2 * BLOCK))
        with code.loop(code.number(0), width, 2) as pair:
            columns = [
                code.load(
                    BF16_PAIRS, code.at(here, code.times(width, 2 * BLOCK * part), code.times(pair, 32))
                )
                for part in range(STRIDE)
            ]
            for row in range(len(places)):
                word = code.load(I32, code.at(q, code.times(width, 2 * row), code.times(pair, 2)))
                query = b.bitcast(code.spread(word, WORDS), BF16_PAIRS)
                for part, column in enumerate(columns):
                    total = sums[row, part]
                    dot = "llvm.x86.avx512bf16.dpbf16ps.512"
                    b.store(code.intrinsic(dot, b.load(total, typ=VECTOR), query, column), total)
        for part in range(STRIDE):
            begin = code.times(b.add(at, code.number(part)), BLOCK)
            numbers = b.add(lanes, code.spread(b.trunc(begin, I32), WORDS))
            there = b.icmp_signed("<", numbers, limit)
            for row, place in enumerate(places):
                score = b.fmul(b.load(sums[row, part], typ=VECTOR), scales)
                score = b.select(there, score, nothing)
                code.store(score, code.at(place, code.times(begin, 4)))
                highest = code.intrinsic("llvm.maxnum.v16f32", b.load(most[row], typ=VECTOR), score)
                b.store(highest, most[row])
    larger = "llvm.maxnum.v16f32"
    return [
        code.spread(code.folded(b.load(row, typ=VECTOR), lambda x, y: code.intrinsic(larger, x, y)), VECTOR)
        for row in most
    ]


def _soften(code: Code, place: Any, vectors: Any, most: Any) -> Any:
    """Scores -> exp(score - highest); returns one over their sum, spread."""
    b = code.b
    total = code.variable(VECTOR, code.splat(0.0))
    with code.loop(code.number(0), vectors) as at:
        here = code.at(place, code.times(at, 4 * BLOCK))
        score = code.load(VECTOR, here)
        power = exponential(code, b.fsub(score, most))
        power = b.select(b.fcmp_ordered("==", score, code.splat(-math.inf)), code.splat(0.0), power)
        code.store(power, here)
        b.store(b.fadd(b.load(total, typ=VECTOR), power), total)
    whole = code.folded(b.load(total, typ=VECTOR), b.fadd)
    return code.spread(b.fdiv(ir.Constant(F32, 1.0), whole), VECTOR)


def _weigh(
    code: Code,
    places: list[Any],
    *,
    keys: Any,
    vectors: Any,
    width: Any,
    values: Any,
    table: Any,
    column: Any,
) -> list[list[Any]]:
    """WIDTH_STEP columns of the values, weighted and added key by key: variables of 16 sums."""
    b = code.b
    parts = range(WIDTH_STEP // LANES)
    sums = [[code.variable(VECTOR, code.splat(0.0)) for _ in parts] for _ in places]
    row = code.times(width, 2)
    with code.loop(code.number(0), vectors) as at:
        block = code.load(I64, code.at(table, code.times(at, 8)))
        begin = code.times(at, BLOCK)
        first = code.at(values, code.times(block, row, BLOCK), code.times(column, 2))
        left = code.minimum(b.sub(keys, begin), code.number(BLOCK))
        with code.loop(code.number(0), left) as key:
            here = code.at(first, code.times(key, row))
            numbers = [code.wide(code.at(here, 32 * part)) for part in parts]
            for place, totals in zip(places, sums, strict=True):
                weight = code.load(F32, code.at(place, code.times(b.add(begin, key), 4)))
                weights = code.spread(weight, VECTOR)
                for part in parts:
                    total = totals[part]
                    b.store(code.fma(weights, numbers[part], b.load(total, typ=VECTOR)), total)
    return sums

"""Between the projection and attention: each head's norm and rotation, and keys and values into the paged cache.

The rotation (arXiv 2104.09864) rounds to bf16 after each operation, as `xpod_model.rope.rotate` does.
"""

from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import I64, LANES, POINTER, WORDS, Code, kernel
from xpod_model.kernels.rows import row_items, rows_of


def add_heads(module: ir.Module, norm_row: Any) -> None:
    """`heads(qkv, rows, heads, kv_heads, width, norm, eps bits, angles, positions, slots, queries, cache, plane)`.

    qkv [rows, heads + 2 * kv_heads, width] is used up. norm [heads + kv_heads, width] or 0; angles: a row of cosines
    and signed sines [2 * width] a position. Queries go to `queries` [rows, heads, width], keys and values to the
    cache's planes, `plane` bytes apart, at slots[row].
    """
    rotate = _rotate(module)
    item, arguments = kernel(module, "heads", 13, row_items(1))
    index, _, qkv, rows, heads, kv_heads, width, norm, eps, *places = arguments
    angles, positions, slots, queries, cache, plane = places
    b = item.b
    size = item.times(width, 2)
    turned = b.add(heads, kv_heads)
    with rows_of(item, index, rows) as row:
        first = item.address(qkv, item.times(row, b.add(turned, kv_heads), size))
        position = item.load(I64, item.address(positions, item.times(row, 8)))
        angle = item.address(angles, item.times(position, size, 2))
        slot = item.times(item.load(I64, item.address(slots, item.times(row, 8))), size)
        with item.loop(item.number(0), turned) as head:
            x = item.at(first, item.times(head, size))
            with b.if_then(b.icmp_signed("!=", norm, item.number(0))):
                b.call(norm_row, [x, item.address(norm, item.times(head, size)), x, width, eps])
            query = item.address(queries, item.times(b.add(item.times(row, heads), head), size))
            key = item.address(cache, item.times(b.sub(head, heads), plane), slot)
            there = b.select(b.icmp_signed("<", head, heads), query, key)
            b.call(rotate, [x, angle, there, width])
        with item.loop(item.number(0), kv_heads) as head:
            value = item.at(first, item.times(b.add(turned, head), size))
            there = item.address(cache, item.times(b.add(kv_heads, head), plane), slot)
            with item.loop(item.number(0), size, 64) as at:
                item.store(item.load(WORDS, item.at(value, at)), item.at(there, at))
    b.ret_void()


def _rotate(module: ir.Module) -> Any:
    """One head: (x, angles, out, width)."""
    code = Code(module, "rotate", [POINTER, POINTER, POINTER, I64])
    code.function.linkage = "internal"
    b = code.b
    x, angles, out, width = code.arguments
    half = width  # in bytes: half of the numbers, two bytes each
    with code.loop(code.number(0), half, 2 * LANES) as at:
        low, high = code.wide(code.at(x, at)), code.wide(code.at(x, half, at))
        cosines = code.wide(code.at(angles, at)), code.wide(code.at(angles, half, at))
        sines = code.wide(code.at(angles, half, half, at)), code.wide(code.at(angles, half, half, half, at))
        for one, other, cosine, sine, offset in (
            (low, high, cosines[0], sines[0], [at]),
            (high, low, cosines[1], sines[1], [half, at]),
        ):
            turned = b.fadd(code.as_bf16(b.fmul(one, cosine)), code.as_bf16(b.fmul(other, sine)))
            code.store(code.rounded(turned), code.at(out, *offset))
    b.ret_void()
    return code.function

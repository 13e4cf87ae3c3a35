"""Pairs of a token and an expert in the order in which they are sent out: by key, and by token within one.

A counting sort, because there are few keys and it touches little memory: it runs between two hops, where whatever is
touched comes from far away.
"""

from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import I32, I64, POINTER, Code

ARGUMENTS = 10


def add_sort_pairs(module: ir.Module) -> None:
    """`sort_pairs([chosen, tokens, K, keys, groups, experts, counts, place, token_of, expert_of])`.

    chosen int64 [tokens, K], an expert or -1; keys int64 [experts + 1], the last for -1, each below groups * experts.
    counts int64 [groups * experts], all 0, is scratch, in front of which int64 [groups] take where each group of
    `experts` keys begins. place int64, token_of and expert_of int32, each [tokens * K].
    """
    code = Code(module, "sort_pairs", [POINTER])
    b, zero = code.b, code.number(0)
    (base,) = code.arguments
    chosen, tokens, k, keys, groups, experts, counts, place, token_of, expert_of = (
        code.load(I64, code.at(base, 8 * i)) for i in range(ARGUMENTS)
    )
    begins = code.address(b.sub(counts, code.times(groups, 8)))

    def count_of(index: Any) -> tuple[Any, Any]:
        """The expert of a pair, and where the number of its key is."""
        expert = code.load(I64, code.address(chosen, code.times(index, 8)))
        column = b.select(b.icmp_signed("<", expert, zero), experts, expert)
        return expert, code.address(
            counts, code.times(code.load(I64, code.address(keys, code.times(column, 8))), 8)
        )

    with code.loop(zero, b.mul(tokens, k)) as index:
        _, at = count_of(index)
        code.store(b.add(code.load(I64, at), code.number(1)), at)
    total = code.variable(I64, zero)
    with code.loop(zero, groups) as group:
        code.store(b.load(total, typ=I64), code.at(begins, code.times(group, 8)))
        with code.loop(zero, experts) as offset:
            at = code.address(counts, code.times(b.add(b.mul(group, experts), offset), 8))
            size, before = code.load(I64, at), b.load(total, typ=I64)
            code.store(before, at)
            b.store(b.add(before, size), total)
    with code.loop(zero, tokens) as token, code.loop(zero, k) as slot:
        index = b.add(b.mul(token, k), slot)
        expert, at = count_of(index)
        position = code.load(I64, at)
        code.store(b.add(position, code.number(1)), at)
        code.store(index, code.address(place, code.times(position, 8)))
        for value, array in ((token, token_of), (expert, expert_of)):
            code.store(b.trunc(value, I32), code.address(array, code.times(position, 4)))
    b.ret_void()

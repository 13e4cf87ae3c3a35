"""A small language for vector kernels, on top of llvmlite's IR builder: functions, loops, vectors of 16 numbers.

It knows LLVM and AVX-512's two bf16 instructions; it does not know what is computed. A kernel is `void(int64 *)`:
its arguments are numbers and addresses in an array, behind two counters that deal out items of work and numbers of
threads, so that several threads may run one call. Vectors hold 16 fp32 numbers; bf16 numbers are widened when they
are read and rounded when they are written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

LANES = 16
I16, I32, I64, F32, VOID = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VoidType()
POINTER = ir.PointerType()
VECTOR, WORDS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
HALVES = ir.VectorType(I16, LANES)
PREFETCH_FOR_READING, KEEP_IN_ALL_CACHES, DATA = 0, 3, 1


class _BFloat(ir.Type):  # type: ignore[misc]
    """llvmlite has no name for bf16."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BF16_PAIRS, BF16_LANES = ir.VectorType(_BFloat(), 2 * LANES), ir.VectorType(_BFloat(), LANES)
INTRINSICS: dict[str, tuple[ir.Type, list[ir.Type]]] = {
    "llvm.x86.avx512bf16.dpbf16ps.512": (VECTOR, [VECTOR, BF16_PAIRS, BF16_PAIRS]),
    "llvm.x86.avx512bf16.cvtneps2bf16.512": (BF16_LANES, [VECTOR]),
    "llvm.fma.v16f32": (VECTOR, [VECTOR, VECTOR, VECTOR]),
    "llvm.minnum.v16f32": (VECTOR, [VECTOR, VECTOR]),
    "llvm.maxnum.v16f32": (VECTOR, [VECTOR, VECTOR]),
    "llvm.rint.v16f32": (VECTOR, [VECTOR]),
    "llvm.sqrt.f32": (F32, [F32]),
    "llvm.prefetch.p0": (VOID, [POINTER, I32, I32, I32]),
}


class Code:
    """One function while it is written. Offsets and sizes are in bytes."""

    def __init__(self, module: ir.Module, name: str, arguments: Sequence[ir.Type]) -> None:
        self._module = module
        self.function = ir.Function(module, ir.FunctionType(VOID, arguments), name)
        self.b = ir.IRBuilder(self.function.append_basic_block())
        self.arguments = list(self.function.args)

    def number(self, value: int) -> Any:
        return ir.Constant(I64, value)

    def splat(self, value: float) -> Any:
        """A vector of 16 times the same constant."""
        return ir.Constant(VECTOR, [float(value)] * LANES)

    def intrinsic(self, name: str, *operands: Any) -> Any:
        result, arguments = INTRINSICS[name]
        declared = self._module.globals.get(name)
        if declared is None:
            declared = ir.Function(self._module, ir.FunctionType(result, arguments), name)
        return self.b.call(declared, operands)

    def at(self, base: Any, *offsets: Any) -> Any:
        """The address `base` plus offsets, numbers or values."""
        for offset in offsets:
            by = self.number(offset) if isinstance(offset, int) else offset
            base = self.b.gep(base, [by], source_etype=ir.IntType(8))
        return base

    def load(self, kind: ir.Type, address: Any) -> Any:
        return self.b.load(address, typ=kind, align=1)

    def store(self, value: Any, address: Any) -> None:
        self.b.store(value, address, align=1)

    def wide(self, address: Any) -> Any:
        """16 bf16 numbers as fp32."""
        words = self.b.zext(self.load(HALVES, address), WORDS)
        return self.b.bitcast(self.b.shl(words, ir.Constant(WORDS, [16] * LANES)), VECTOR)

    def rounded(self, vector: Any) -> Any:
        """To bf16, nearest, ties to even."""
        return self.intrinsic("llvm.x86.avx512bf16.cvtneps2bf16.512", vector)

    def as_bf16(self, vector: Any) -> Any:
        """Rounded to bf16, and wide again."""
        words = self.b.zext(self.b.bitcast(self.rounded(vector), HALVES), WORDS)
        return self.b.bitcast(self.b.shl(words, ir.Constant(WORDS, [16] * LANES)), VECTOR)

    def spread(self, scalar: Any, kind: ir.VectorType) -> Any:
        """A vector of 16 times the same value."""
        one = self.b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
        return self.b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def lane(self, vector: Any, index: int) -> Any:
        return self.b.extract_element(vector, ir.Constant(I32, index))

    def shuffle(self, a: Any, b: Any, order: Sequence[int]) -> Any:
        """Elements of a and b, numbered on from a to b, in another order."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), list(order)))

    def folded(self, vector: Any, together: Callable[[Any, Any], Any]) -> Any:
        """All 16 numbers put together into one, halves first."""
        width = LANES // 2
        while width:
            other = self.shuffle(vector, vector, [(i + width) % LANES for i in range(LANES)])
            vector = together(vector, other)
            width //= 2
        return self.lane(vector, 0)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.intrinsic("llvm.fma.v16f32", a, b, c)

    def prefetch(self, address: Any) -> None:
        flags = (PREFETCH_FOR_READING, KEEP_IN_ALL_CACHES, DATA)
        self.intrinsic("llvm.prefetch.p0", address, *(ir.Constant(I32, flag) for flag in flags))

    def address(self, number: Any, *offsets: Any) -> Any:
        """A kernel's argument as an address, plus offsets."""
        return self.at(self.b.inttoptr(number, POINTER), *offsets)

    def times(self, *factors: Any) -> Any:
        """The product of whole numbers and values."""
        values = [self.number(factor) if isinstance(factor, int) else factor for factor in factors]
        result = values[0]
        for value in values[1:]:
            result = self.b.mul(result, value)
        return result

    def minimum(self, a: Any, b: Any) -> Any:
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def variable(self, kind: ir.Type, value: Any) -> Any:
        """Something that a loop changes: `load` and `store` it. LLVM keeps it in a register."""
        with self.b.goto_entry_block():
            place = self.b.alloca(kind)
        self.b.store(value, place)
        return place

    def room(self, kind: ir.Type) -> Any:
        """Memory of this call, by address."""
        with self.b.goto_entry_block():
            place = self.b.alloca(kind)
        place.type = POINTER  # llvmlite would insist on reading back nothing but `kind`
        return place

    @contextmanager
    def loop(self, begin: Any, end: Any, step: int = 1) -> Iterator[Any]:
        """`for i in range(begin, end, step)`; yields i."""
        b = self.b
        before, head, body, after = b.block, *(self.function.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(begin, before)
        b.cbranch(b.icmp_signed("<", index, end), body, after)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, self.number(step)), b.block)
        b.branch(head)
        b.position_at_end(after)


def kernel(
    module: ir.Module, name: str, arguments: int, items: Callable[[Code, list[Any]], Any]
) -> tuple[Code, list[Any]]:
    """Begin `void name(int64 *)`, which draws items until there are none and does each of them.

    The array holds the next item, the next thread's number, and the `arguments`; `items` computes from these how
    many items there are. Returns the code of one item, which the caller writes, and its arguments: the item, the
    number of the thread, the kernel's arguments.
    """
    item = Code(module, f"{name}.item", [I64] * (2 + arguments))
    item.function.linkage = "internal"
    code = Code(module, name, [POINTER])
    (base,) = code.arguments
    values = [code.load(I64, code.at(base, 8 * (2 + i))) for i in range(arguments)]
    total = items(code, values)
    b = code.b
    one = code.number(1)
    thread = b.atomic_rmw("add", code.at(base, 8), one, "monotonic")
    head, body, done = (code.function.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    drawn = b.atomic_rmw("add", base, one, "monotonic")
    b.cbranch(b.icmp_signed("<", drawn, total), body, done)
    b.position_at_end(body)
    b.call(item.function, [drawn, thread, *values])
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()
    return item, item.arguments

"""Kernels one after the other in one call: what would be many small calls from Python, each into cold code.

A program is int64 [steps, STEP]: a kernel's address, its two counters, its arguments.
"""

from llvmlite import ir

from xpod_model.kernels.code import I64, POINTER, Code

STEP = 16
ARGUMENTS = 3
"""Where a step's arguments begin."""


def add_sequence(module: ir.Module) -> None:
    """`sequence([program, steps])`: each step's counters are set to zero and its kernel called, on this thread."""
    code = Code(module, "sequence", [POINTER])
    b = code.b
    (base,) = code.arguments
    program, steps = code.address(code.load(I64, base)), code.load(I64, code.at(base, 8))
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    with code.loop(code.number(0), steps) as index:
        step = code.at(program, code.times(index, 8 * STEP))
        for counter in (8, 16):
            code.store(code.number(0), code.at(step, counter))
        called = b.inttoptr(code.load(I64, step), kind.as_pointer())
        b.call(called, [code.at(step, 8)])
    b.ret_void()

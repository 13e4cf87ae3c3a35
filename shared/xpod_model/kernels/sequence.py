"""Kernels one after the other in one call, and a team that shares them.

A program is int64 [steps, STEP]: a kernel's address, whether its items may be shared, its two counters, its arguments.
The team's protocol: whoever runs a program shows the step that it is at, and draws items like everybody; a helper
enters, looks which step is shown, and draws items of it. A step is over when its items are drawn, it is no longer
shown, and nobody is inside. Nobody waits for a helper to come: one that comes late, or to a busy core, finds nothing
to do. Between programs helpers sleep in the kernel.
"""

from typing import Any

from llvmlite import ir

from xpod_model.kernels.code import I32, I64, POINTER, VOID, Code

ADDRESS, SHARED, COUNTERS, ARGUMENTS = 0, 1, 2, 4
"""Where in a step what stands."""
STEP = 17
TEAM_BYTES = 256
# places in the team's memory, a cache line apart; AWAKE is what futexes wait for
AWAKE, SHOWN, INSIDE = 0, 64, 128
ASLEEP, AT_WORK = 0, 1
# looks at memory before a waiting thread offers its core to others
PATIENCE = 2000
FUTEX, YIELD = 202, 24
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
EVERYBODY = 1 << 30
SEQ = "seq_cst"


def add_sequence(module: ir.Module) -> None:
    """`sequence([program, steps, team])`, team 0 for none, and `help(team)`, which never returns."""
    _add_run(module)
    _add_help(module)


def _add_run(module: ir.Module) -> None:
    code = Code(module, "sequence", [POINTER])
    b = code.b
    (base,) = code.arguments
    program, steps = code.address(code.load(I64, base)), code.load(I64, code.at(base, 8))
    address = code.load(I64, code.at(base, 16))
    team, nobody = code.address(address), b.icmp_signed("==", address, code.number(0))
    with b.if_then(b.not_(nobody)):
        before = b.atomic_rmw("xchg", team, ir.Constant(I32, AT_WORK), SEQ)
        with b.if_then(b.icmp_signed("==", before, ir.Constant(I32, ASLEEP))):
            _futex(code, team, FUTEX_WAKE_PRIVATE, EVERYBODY)
    with code.loop(code.number(0), steps) as index:
        step = code.at(program, code.times(index, 8 * STEP))
        for counter in range(COUNTERS, ARGUMENTS):
            code.store(code.number(0), code.at(step, 8 * counter))
        alone = b.icmp_signed("==", code.load(I64, code.at(step, 8 * SHARED)), code.number(0))
        with b.if_else(b.or_(nobody, alone)) as (alone_, together):
            with alone_:
                _call(code, step)
            with together:
                b.atomic_rmw("xchg", code.at(team, SHOWN), b.ptrtoint(step, I64), SEQ)
                _call(code, step)
                b.atomic_rmw("xchg", code.at(team, SHOWN), code.number(0), SEQ)
                _wait_while(code, lambda: b.icmp_signed("!=", _look(code, team, INSIDE), code.number(0)))
    with b.if_then(b.not_(nobody)):
        b.cmpxchg(team, ir.Constant(I32, AT_WORK), ir.Constant(I32, ASLEEP), SEQ, SEQ)
    b.ret_void()


def _add_help(module: ir.Module) -> None:
    code = Code(module, "help", [POINTER])
    b = code.b
    (team,) = code.arguments
    again, working, asleep = (code.function.append_basic_block() for _ in range(3))
    b.branch(again)
    b.position_at_end(again)
    b.cbranch(b.icmp_signed("==", _look(code, team, AWAKE, I32), ir.Constant(I32, ASLEEP)), asleep, working)
    b.position_at_end(asleep)
    _futex(code, team, FUTEX_WAIT_PRIVATE, ASLEEP)
    b.branch(again)
    b.position_at_end(working)
    b.atomic_rmw("add", code.at(team, INSIDE), code.number(1), SEQ)
    shown = _look(code, team, SHOWN)
    with b.if_then(b.icmp_signed("!=", shown, code.number(0))):
        _call(code, code.address(shown))
    b.atomic_rmw("sub", code.at(team, INSIDE), code.number(1), SEQ)
    _wait_while(
        code,
        lambda: b.and_(
            b.icmp_signed("==", _look(code, team, SHOWN), shown),
            b.icmp_signed("==", _look(code, team, AWAKE, I32), ir.Constant(I32, AT_WORK)),
        ),
    )
    b.branch(again)


def _call(code: Code, step: Any) -> None:
    kind = ir.FunctionType(VOID, [POINTER])
    kernel = code.b.inttoptr(code.load(I64, step), kind.as_pointer())
    code.b.call(kernel, [code.at(step, 8 * COUNTERS)])


def _look(code: Code, team: Any, place: int, kind: ir.Type = I64) -> Any:
    return code.b.load_atomic(code.at(team, place), SEQ, 8 if kind == I64 else 4, typ=kind)


def _wait_while(code: Code, condition: Any) -> None:
    """Look again and again; after PATIENCE looks let other threads have the core in between."""
    b = code.b
    looks = code.variable(I64, code.number(0))
    head, body, after = (code.function.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(condition(), body, after)
    b.position_at_end(body)
    b.asm(ir.FunctionType(VOID, []), "pause", "~{memory}", [], True)
    count = b.add(b.load(looks, typ=I64), code.number(1))
    b.store(count, looks)
    with b.if_then(b.icmp_signed(">", count, code.number(PATIENCE))):
        _system(code, YIELD, [])
    b.branch(head)
    b.position_at_end(after)


def _futex(code: Code, address: Any, operation: int, value: int) -> None:
    words = [code.b.ptrtoint(address, I64), *(code.number(word) for word in (operation, value, 0))]
    _system(code, FUTEX, words)


def _system(code: Code, number: int, arguments: list[Any]) -> None:
    """A system call of Linux on x86-64."""
    registers = "".join(f",{{{name}}}" for name in ("rdi", "rsi", "rdx", "r10")[: len(arguments)])
    kind = ir.FunctionType(I64, [I64] * (1 + len(arguments)))
    constraint = "={rax},{rax}" + registers + ",~{rcx},~{r11},~{memory},~{dirflag},~{fpsr},~{flags}"
    code.b.asm(kind, "syscall", constraint, [code.number(number), *arguments], True)

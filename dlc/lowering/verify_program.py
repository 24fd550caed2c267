"""The rules that a sound program keeps, apart from its memory plan: see `dlc.lowering.replay`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlc.errors import InternalError
from dlc.ir.dims import Dim, Guard, Symbol, free_symbols, known_equal
from dlc.lowering.assumptions import assume
from dlc.lowering.inspect import loads, stages
from dlc.lowering.kernel import Kernel, Store
from dlc.lowering.program import Bind, Buffer, Host, Launch, Program
from dlc.lowering.ranges import Space
from dlc.lowering.text import kernel_symbols
from dlc.lowering.verify import violations

_SHOWN = 20


def verify_program(program: Program) -> None:
    """InternalError that lists what is wrong with `program`, if anything is.

    Its kernels are sound under its guards, and each can run as one nest; launches give them the tensors that
    they expect; no step speaks of a symbol that is not bound yet.
    """
    problems = list(dict.fromkeys(_problems(program)))
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InternalError(f"the program is not sound:\n{shown}{more}")


def _problems(program: Program) -> Iterator[str]:
    for index, kernel in enumerate(program.kernels):
        for problem in (*violations(kernel, program.guards), *_nest_problems(kernel)):
            yield f"kernel {index} {kernel.name}: {problem}"
    bound = set(program.symbols)
    for number, step in enumerate(program.steps):
        match step:
            case Launch():
                if not 0 <= step.kernel < len(program.kernels):
                    yield f"step {number} launches kernel {step.kernel}, which does not exist"
                    continue
                for problem in _launch_problems(program, step, bound):
                    yield f"step {number}: {problem}"
            case Host():
                for buffer in (*step.inputs, *step.outputs):
                    if buffer is not None:
                        yield from (f"step {number}: {p}" for p in _unbound(_buffer_dims(buffer), bound))
            case Bind(symbol, buffer, _):
                yield from (f"step {number}: {p}" for p in _unbound(_buffer_dims(buffer), bound))
                bound.add(symbol)


def _nest_problems(kernel: Kernel) -> Iterator[str]:
    """Backends run a kernel point by point: no stage may read what another one stores."""
    stored = {stage.param: stage for stage in stages(kernel.body) if isinstance(stage, Store)}
    for stage in kernel.body:
        for load in loads((stage,)):
            if load.param in stored and stored[load.param] not in stages((stage,)):
                yield f"{load.param} is read in one stage and stored in another"


def _launch_problems(program: Program, step: Launch, bound: set[Symbol]) -> Iterator[str]:
    kernel = program.kernels[step.kernel]
    if len(step.buffers) != len(kernel.params):
        yield f"{len(step.buffers)} buffers are given to {len(kernel.params)} parameters"
        return
    yield from _unbound(kernel_symbols(kernel), bound)
    for param, buffer in zip(kernel.params, step.buffers):
        yield from _unbound(_buffer_dims(buffer), bound)
        same = (
            buffer.type.dtype is param.type.dtype
            and buffer.type.layout == param.type.layout
            and buffer.type.rank == param.type.rank
            and all(
                _equal(a, b, program.guards) for a, b in zip(buffer.type.shape, param.type.shape, strict=True)
            )
        )
        if not same:
            yield f"{kernel.name} takes {param.type} as {param.name}, but %{buffer.name} is {buffer.type}"


def _equal(left: Dim, right: Dim, guards: tuple[Guard, ...]) -> bool:
    if known_equal(left, right):
        return True
    space = Space({}, assume(guards))
    return space.nonnegative(left - right) and space.nonnegative(right - left)


def _buffer_dims(buffer: Buffer) -> list[Dim]:
    return [buffer.offset, *buffer.type.shape]


def _unbound(dims: Sequence[Dim], bound: set[Symbol]) -> Iterator[str]:
    unknown = {symbol.name for dim in dims for symbol in free_symbols(dim)} - {s.name for s in bound}
    for name in sorted(unknown):
        yield f"the symbol {name} is not bound yet"

"""A program as text, for people: symbols, memory, kernels, steps.

program {
  symbol batch
  arena 4096*batch bytes
  input %x: f32[batch, 64] @ input 0
  output %y: f32[batch, 10] @ output 0
  constant 0 %w: f32[64, 10], 2560 bytes
  step 0: kernel 0 matmul_relu(%x, %w, %hidden @ arena + 0)  # "fc1", "relu1"
  step 1: host Unique(%hidden) -> %y: no kernel is written for Unique
  kernel 0 {
    ...
  }
}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from dlc.ir.dims import Symbol, to_text as dim_text
from dlc.ir.text import guard_text, name_text, quoted, symbol_text
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Check,
    Copy,
    Grow,
    Host,
    Launch,
    Measure,
    ObjectSlot,
    Place,
    Program,
    Refer,
    Repeat,
    Set,
    Step,
    Steps,
    StorageKind,
    Unload,
)
from dlc.lowering.text import to_text as kernel_text


def program_text(program: Program, *, kernels: bool = True) -> str:
    """The text of `program`, with that of its kernels unless told otherwise."""
    return "\n".join(_lines(program, kernels)) + "\n"


def _lines(program: Program, kernels: bool) -> Iterator[str]:
    yield "program {"
    for symbol in program.symbols:
        yield f"  symbol {symbol_text(symbol, None)}"
    for symbol in program.run_symbols:
        yield f"  symbol {symbol_text(symbol, None)}, bound by a step"
    for guard in program.guards:
        yield f"  guard {guard_text(guard)}"
    yield f"  arena {dim_text(program.arena)} bytes"
    for place in program.inputs:
        yield f"  input %{name_text(place.name)}: {place.type}{_place(place)}"
    for place in program.outputs:
        yield f"  output %{name_text(place.name)}: {place.type}{_place(place)}"
    for index, constant in enumerate(program.constants):
        held = f"{constant.data.dtype}{list(constant.data.shape)}, {constant.data.nbytes} bytes"
        yield f"  constant {index} %{name_text(constant.name)}: {held}"
    for entry in program.object_constants:
        yield f"  constant %{name_text(entry.slot.name)}: {entry.slot.type}{_place(entry.slot)}"
    yield from _step_lines(program, program.steps, itertools.count(), "  ")
    for index, kernel in enumerate(program.kernels if kernels else ()):
        first, *rest = kernel_text(kernel).splitlines()
        yield f"  {first.replace('kernel', f'kernel {index}', 1)}"
        yield from (f"  {line}" for line in rest)
    yield "}"


def decisions_text(program: Program) -> str:
    """Why operators share kernels, or do not: one line a decision."""
    lines = []
    for d in program.decisions:
        verdict = "fused" if d.fused else "apart"
        lines.append(f"{verdict}: {quoted(d.producer)} -> {quoted(d.consumer)}: {d.reason}\n")
    return "".join(lines)


def _step_lines(program: Program, steps: Steps, numbers: Iterator[int], indent: str) -> Iterator[str]:
    """Steps, numbered as `walk` meets them; those inside of branches and loops are indented."""
    for step in steps:
        yield f"{indent}step {next(numbers)}: {_step_text(program, step)}"
        match step:
            case Branch():
                yield from _step_lines(program, step.then, numbers, f"{indent}  ")
                yield f"{indent}else"
                yield from _step_lines(program, step.otherwise, numbers, f"{indent}  ")
                yield f"{indent}end"
            case Repeat():
                yield from _step_lines(program, step.body, numbers, f"{indent}  ")
                yield f"{indent}end"


def _step_text(program: Program, step: Step) -> str:
    match step:
        case Set(symbols, values):
            return ", ".join(f"{s.name} = {dim_text(v)}" for s, v in zip(symbols, values, strict=True))
        case Grow(storage, size):
            return f"grow {storage.kind.value} {storage.index} to {dim_text(size)} bytes"
        case Copy(source, target):
            return f"copy {_buffer_text(source)} to {_buffer_text(target)}"
        case Branch(condition):
            return f"if {_buffer_text(condition)}{_kept(step.symbols)}"
        case Repeat():
            return _repeat_text(step)
        case Launch(kernel, buffers, _, origins):
            operands = ", ".join(map(_buffer_text, buffers))
            comment = f"  # {', '.join(map(quoted, origins))}" if origins else ""
            return f"kernel {kernel} {program.kernels[kernel].name}({operands}){comment}"
        case Bind(symbol, buffer, index):
            return f"bind {symbol.name} = element {index} of {_buffer_text(buffer)}"
        case Check(guard, _):
            return f"check {guard}"
        case Host(_, node, inputs, outputs, reason):
            operands = ", ".join("_" if place is None else _place_text(place) for place in inputs)
            results = ", ".join(map(_place_text, outputs))
            comment = f"  # {', '.join(map(quoted, node.origin))}" if node.origin else ""
            return f"host {node.op.name}({operands}) -> {results}: {reason}{comment}"
        case Measure(_, symbol, slot, axis):
            return f"measure {symbol.name} = extent {axis} of {_place_text(slot)}"
        case Unload(_, slot, buffer):
            return f"unload {_place_text(slot)} to {_buffer_text(buffer)}"
        case Refer(_, source, target, row):
            at = "" if row is None else f", row {row.name}"
            return f"refer {_place_text(target)}{at} to {_place_text(source)}"


def _repeat_text(step: Repeat) -> str:
    """The head of a loop."""
    parts = [f"for {step.number.name}"]
    parts += [f"below {dim_text(step.trip)}"] if step.trip is not None else []
    parts += [f"if {_buffer_text(step.condition)}"] if step.condition is not None else []
    parts += [f"again while {_buffer_text(step.again)}"] if step.again is not None else []
    parts += [f"counted in {_buffer_text(step.counter)}"] if step.counter is not None else []
    return " ".join(parts) + _kept(step.symbols)


def _kept(symbols: Sequence[Symbol]) -> str:
    return f" keeping {', '.join(symbol.name for symbol in symbols)}" if symbols else ""


def _place_text(place: Place) -> str:
    return _buffer_text(place) if isinstance(place, Buffer) else f"%{name_text(place.name)}{_place(place)}"


def _buffer_text(buffer: Buffer) -> str:
    shown = buffer.storage.kind in (StorageKind.ARENA, StorageKind.GROWN)
    place = _place(buffer) if shown else ""
    return f"%{name_text(buffer.name)}{place}"


def _place(place: Place) -> str:
    if isinstance(place, ObjectSlot):
        return f" @ object {place.index}"
    storage = place.storage
    where = "arena" if storage.kind is StorageKind.ARENA else f"{storage.kind.value} {storage.index}"
    offset = "" if place.offset == 0 else f" + {dim_text(place.offset)}"
    return f" @ {where}{offset}"

"""The host steps of a program, as a plan; and as members of a package, and back.

The nodes stand in a package in the text form of the graph IR, as one graph, each operand an input of it; what
else there is to say of the steps, and the strings among the constants, in JSON. So a package is loaded with
the IR's operators at hand, but without the compiler.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api.hosts import Evaluate, HostPlan, HostStep, Measure, Operand, Refer
from dlc.errors import Error, PackageError
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.sequences import Identity
from dlc.ir.parse import parse
from dlc.ir.text import to_text
from dlc.ir.types import is_object
from dlc.runtime.codec import decode, encode, parse as parse_json

if TYPE_CHECKING:
    from dlc.lowering.program import Place, Program

NODES_MEMBER = "host/nodes.ir"
STEPS_MEMBER = "host/steps.json"
#: The entry of an operand that is a tensor of numbers in memory.
MEMORY = -1
#: The most entries of a table of objects.
_MOST_SLOTS = 1 << 24


def plan_of(program: Program) -> HostPlan | None:
    """What Python does in the runs of a program; None when that is nothing."""
    from dlc.lowering import program as lowered

    names = tuple(symbol.name for symbol in (*program.symbols, *program.run_symbols))
    numbers = {name: index for index, name in enumerate(names)}
    steps: dict[int, HostStep] = {}
    for step in lowered.walk(program.steps):
        match step:
            case lowered.Host(index, node, inputs, outputs):
                operands = tuple(None if place is None else _operand(place) for place in inputs)
                origin = ", ".join(node.origin) or None
                steps[index] = Evaluate(node.op, operands, tuple(map(_operand, outputs)), origin)
            case lowered.Unload(index, slot, buffer):
                steps[index] = Evaluate(Identity(), (_operand(slot),), (_operand(buffer),), None)
            case lowered.Measure(index, symbol, slot, axis):
                steps[index] = Measure(slot.index, axis, numbers[symbol.name])
            case lowered.Refer(index, source, target, row):
                steps[index] = Refer(source.index, target.index, None if row is None else numbers[row.name])

    def entries(places: tuple[Place, ...]) -> tuple[int, ...]:
        return tuple(place.index if isinstance(place, lowered.ObjectSlot) else MEMORY for place in places)

    if not steps and not program.objects:
        return None
    constants = {entry.slot.index: entry.data for entry in program.object_constants}
    given, made = entries(program.inputs), entries(program.outputs)
    return HostPlan(names, program.objects, given, made, constants, steps)


def _operand(place: Place) -> Operand:
    from dlc.lowering.program import ObjectSlot

    return Operand(place.type, place.index if isinstance(place, ObjectSlot) else None)


# --- packages


@dataclasses.dataclass(frozen=True)
class _Strings:
    """A constant of strings."""

    slot: int
    shape: tuple[int, ...]
    content: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step. `kind` is "evaluate", "measure" or "refer"; `operands` and `results` are entries of the table,
    MEMORY, or None for an absent operand. `symbol` is the number of the symbol that is set or read.
    """

    step: int
    kind: str
    operands: tuple[int | None, ...] = ()
    results: tuple[int, ...] = ()
    axis: int = 0
    symbol: int | None = None


@dataclasses.dataclass(frozen=True)
class _Steps:
    """All but the nodes of a plan."""

    symbols: tuple[str, ...]
    slots: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[_Strings, ...]
    steps: tuple[_Step, ...]


def to_members(plan: HostPlan) -> dict[str, bytes]:
    """The members of a package that hold `plan`."""
    graph = Graph("host")
    described = []
    for number, step in plan.steps.items():
        match step:
            case Evaluate():
                _add_node(graph, step)
                operands = tuple(None if o is None else _entry(o) for o in step.inputs)
                described.append(_Step(number, "evaluate", operands, tuple(map(_entry, step.outputs))))
            case Measure(slot, axis, symbol):
                described.append(_Step(number, "measure", (slot,), (), axis, symbol))
            case Refer(source, target, row):
                described.append(_Step(number, "refer", (source,), (target,), 0, row))
    constants = tuple(
        _Strings(slot, data.shape, tuple(map(str, data.reshape(-1)))) for slot, data in plan.constants.items()
    )
    steps = _Steps(plan.symbols, plan.slots, plan.inputs, plan.outputs, constants, tuple(described))
    text = json.dumps(encode(steps), sort_keys=True)
    return {NODES_MEMBER: to_text(graph).encode(), STEPS_MEMBER: text.encode()}


def _entry(operand: Operand) -> int:
    return MEMORY if operand.slot is None else operand.slot


def _add_node(graph: Graph, step: Evaluate) -> None:
    """The node of a step, with its operands as inputs of the graph."""
    inputs = [None if o is None else graph.add_input("x", o.type) for o in step.inputs]
    outputs = [Value(graph.unique_name("y"), o.type) for o in step.outputs]
    graph.nodes.append(Node(step.op, inputs, outputs, (step.node,) if step.node else ()))


def from_members(members: Mapping[str, Any]) -> HostPlan | None:
    """The plan that the members of a package hold; None where there is none.

    Raises PackageError where they are damaged.
    """
    if NODES_MEMBER not in members or STEPS_MEMBER not in members:
        return None
    described: _Steps = decode(_Steps, parse_json(bytes(members[STEPS_MEMBER]), "host steps"), "host steps")
    try:
        nodes = iter(parse(bytes(members[NODES_MEMBER]).decode()).nodes)
        steps = {entry.step: _step(entry, nodes, described) for entry in described.steps}
        constants = {c.slot: _strings(c) for c in described.constants}
    except (Error, ValueError, StopIteration) as error:
        raise PackageError(f"the package's host steps are damaged: {error}") from None
    used = [*described.inputs, *described.outputs, *constants]
    if not all(MEMORY <= slot < described.slots for slot in used) or described.slots > _MOST_SLOTS:
        raise PackageError("the package's host steps use objects that do not exist")
    return HostPlan(
        described.symbols, described.slots, described.inputs, described.outputs, constants, steps
    )


def _strings(constant: _Strings) -> np.ndarray[Any, Any]:
    array = np.empty(len(constant.content), object)
    array[:] = constant.content
    return array.reshape(constant.shape)


def _step(entry: _Step, nodes: Iterator[Node], described: _Steps) -> HostStep:
    """The step that `entry` describes; ValueError where it cannot be."""
    used = [slot for slot in (*entry.operands, *entry.results) if slot is not None]
    numbers = [] if entry.symbol is None else [entry.symbol]
    if not all(MEMORY <= slot < described.slots for slot in used):
        raise ValueError(f"step {entry.step} uses an object that does not exist")
    if not all(0 <= number < len(described.symbols) for number in numbers):
        raise ValueError(f"step {entry.step} uses a symbol that does not exist")
    match entry:
        case _Step(kind="evaluate", operands=operands, results=results):
            node = next(nodes)
            pairs = zip(node.inputs, operands, strict=True)
            inputs = tuple(None if v is None else _operand_of(v, slot) for v, slot in pairs)
            outputs = tuple(map(_operand_of, node.outputs, results))
            return Evaluate(node.op, inputs, outputs, ", ".join(node.origin) or None)
        case _Step(kind="measure", operands=(int(slot),), axis=axis, symbol=int(symbol)):
            return Measure(slot, axis, symbol)
        case _Step(kind="refer", operands=(int(source),), results=(target,), symbol=row):
            return Refer(source, target, row)
    raise ValueError(f"step {entry.step} is of no kind that is known")


def _operand_of(value: Value, slot: int | None) -> Operand:
    if slot is None or (slot == MEMORY and is_object(value.type)):
        raise ValueError(f"%{value.name} cannot lie in memory")
    return Operand(value.type, None if slot == MEMORY else slot)

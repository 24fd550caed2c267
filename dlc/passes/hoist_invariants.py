"""What a loop computes anew in each iteration although nothing in it changes is computed once, before."""
from __future__ import annotations

import collections
import dataclasses
from typing import ClassVar

from dlc.ir.dims import known_le
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import OperatorClass
from dlc.ir.ops import indexing
from dlc.ir.ops.control import Loop
from dlc.ir.types import TensorType
from dlc.passes.pass_base import Numerics, Pass, Property, Statistics
from dlc.passes.regions import is_read, symbols_of

#: Kinds of operators that may move: the others may fault, or give another result each time.
_MOVABLE = (
    OperatorClass.POINTWISE,
    OperatorClass.MOVEMENT,
    OperatorClass.REDUCTION,
    OperatorClass.CONTRACTION,
    OperatorClass.NORMALIZATION,
    OperatorClass.RECURRENT,
)
#: They fault at an index that is out of range, which must not happen where the loop would not run.
_FAULTING = (indexing.Gather, indexing.GatherElements, indexing.GatherND)
#: Kinds whose work is worth the memory of a result that is larger than each operand.
_COSTLY = (OperatorClass.CONTRACTION, OperatorClass.RECURRENT)


@dataclasses.dataclass(frozen=True)
class HoistInvariants(Pass):
    """Move nodes of a loop's body that read captures only before the loop, whose body captures their results.

    Not moved: what may fault; what only reads constants, which is as it is for a reason of its own; and what
    merely enlarges its operands, as broadcasting does, since reading the result anew each time costs more
    than making it.

    Example: in the body of a loop, with %w captured,

        %t = Transpose(perm=(1, 0))(%w)
        %next = MatMul()(%state, %t)

    becomes, with %t computed before the loop and captured,

        %next = MatMul()(%state, %t)
    """

    name: ClassVar[str] = "hoist-invariants"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def apply(self, graph: Graph) -> Statistics:
        count = sum(_hoist(graph, node, node.op) for node in list(graph.nodes) if isinstance(node.op, Loop))
        return Statistics(collections.Counter({"hoist": count} if count else {}))


def _hoist(graph: Graph, node: Node, loop: Loop) -> int:
    """Move what is invariant in the body of a loop before it; returns the number of nodes."""
    (body,) = node.regions
    first = 1 + loop.carried
    invariant = set(body.inputs[first:])
    moved: dict[Node, None] = {}
    for item in body.nodes:
        varies = any(value not in invariant and not value.is_constant for value in item.operands)
        if varies or not _worthwhile(item) or symbols_of(item.dims()) & body.symbols.keys():
            continue
        moved[item] = None
        invariant.update(item.outputs)
    if not moved:
        return 0
    body.nodes = [item for item in body.nodes if item not in moved]
    pairs = zip(body.inputs[first:], node.inputs[first:], strict=True)
    captures = {inner: outer for inner, outer in pairs if outer is not None}
    for item in moved:
        _move(graph, node, body, item, captures)
    kept = {inner: outer for inner, outer in captures.items() if is_read(body, inner)}
    body.inputs = [*body.inputs[:first], *kept]
    node.inputs = [*node.inputs[:first], *kept.values()]
    return len(moved)


def _worthwhile(item: Node) -> bool:
    """Whether a node may be moved, and had better be."""
    op = item.op
    if op.kind not in _MOVABLE or isinstance(op, _FAULTING) or not op.repeatable or item.regions:
        return False
    variable = [value.type for value in item.operands if not value.is_constant]
    if not variable or op.kind in _COSTLY:
        return bool(variable)
    sizes = [type_.elements for type_ in variable if isinstance(type_, TensorType)]
    return all(
        isinstance(value.type, TensorType) and any(known_le(value.type.elements, size) for size in sizes)
        for value in item.outputs
    )


def _move(graph: Graph, loop: Node, body: Graph, item: Node, captures: dict[Value, Value]) -> None:
    """Move one node before the loop; `captures`, to which its results come, are by what stands for them in
    the body.
    """
    operands = list(item.inputs)
    for index, value in enumerate(operands):
        if value is not None and value.is_constant:
            operands[index] = Value(graph.unique_name(value.name), value.type, value.data)
        elif value is not None:
            operands[index] = captures[value]
    item.inputs = operands
    graph.nodes.insert(graph.nodes.index(loop), item)
    for value in item.outputs:
        inner = body.add_input(value.name, value.type)
        body.replace_uses(value, inner)
        captures[inner] = value
        value.name = graph.unique_name(value.name)

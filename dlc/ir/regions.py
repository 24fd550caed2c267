"""How a node with regions and its regions have to fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlc.ir.dims import free_symbols, known_equal
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.control import If, Loop, same_kind
from dlc.ir.types import TensorType, Type, join, opened


def region_problems(node: Node) -> Iterator[str]:
    """What is wrong between `node` and its regions, one sentence each."""
    match node.op:
        case If():
            if len(node.regions) != 2:
                yield f"{node} has {len(node.regions)} regions, not one for each way"
            for region in node.regions:
                yield from _fit(region, "input", region.inputs, [value.type for value in node.operands[1:]])
                yield from _fit(region, "output", region.outputs, node.op.types)
        case Loop() as loop:
            if len(node.regions) != 1:
                yield f"{node} has {len(node.regions)} regions, not one"
            for region in node.regions:
                yield from _loop(node, loop, region)
        case _:
            if node.regions:
                yield f"{node} has regions, which its operator does not run"


def _loop(node: Node, loop: Loop, body: Graph) -> Iterator[str]:
    inputs = [None if value is None else value.type for value in node.inputs[1:]]
    yield from _fit(body, "input", body.inputs[1:], inputs)
    if not body.inputs or str(body.inputs[0].type) != "i64[]":
        yield f"the first input of region {body.name} is not the number of the iteration, an i64 scalar"
    if not body.outputs or str(body.outputs[0].type) not in ("bool[]", "bool[1]"):
        yield f"the first output of region {body.name} is not the condition, one bool"
    elements = [_element(type_) for type_ in loop.types[loop.carried :]]
    yield from _fit(body, "output", body.outputs[1:], [*loop.types[: loop.carried], *elements])


def _element(stack: Type) -> Type:
    """The type of what a stacked result stacks."""
    return TensorType(stack.dtype, stack.shape[1:]) if isinstance(stack, TensorType) else stack


def _fit(region: Graph, what: str, values: Sequence[Value], types: Sequence[Type | None]) -> Iterator[str]:
    """Whether `values` of a region have `types`; extents that differ must be open on one of the sides."""
    if len(values) != len(types):
        yield f"region {region.name} has {len(values)} {what}s where {len(types)} belong"
    for value, type_ in zip(values, types):
        narrow, wide = (type_, value.type) if what == "input" else (value.type, type_)
        if not same_kind(narrow, wide) or not _extents_fit(narrow, wide):
            yield f"the {what} %{value.name} of region {region.name} is {value.type}, not {type_}"


def _extents_fit(narrow: Type | None, wide: Type | None) -> bool:
    """Whether what is of the one type can be of the other."""
    if not isinstance(narrow, TensorType) or not isinstance(wide, TensorType):
        return narrow is None or wide is None or join(opened(narrow), opened(wide)) == opened(wide)
    pairs = zip(narrow.shape, wide.shape)
    return all(known_equal(a, b) or free_symbols(a) or free_symbols(b) for a, b in pairs)

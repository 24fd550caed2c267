"""Graphs of torch.compile: analysed, and closed over their weights so that torch.onnx can export them.

A graph comes from AOTAutograd: operators of ATen without side effects, whose inputs are tensors, among them
all weights, and numbers that its symbolic extents have (torch.SymInt).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

from dlc.errors import Finding, UnsupportedError
from dlc.frontend.torch.kept import originals
from dlc.frontend.torch.operators import draws_random_numbers, operator_name


@dataclass(frozen=True)
class Constant:
    """An output that is always the same."""

    value: Any


@dataclass(frozen=True)
class Argument:
    """An output that is an input of the graph, by position."""

    index: int


@dataclass(frozen=True)
class Result:
    """An output that is computed: its position among the exported model's outputs.

    `number`: the type of Python's number that it is; `order`: the axes of a tensor from the largest stride to
    the smallest, where that is not their own order.
    """

    position: int
    number: type | None = None
    order: tuple[int, ...] | None = None


Output: TypeAlias = "Constant | Argument | Result"


@dataclass(frozen=True)
class Closed:
    """A graph with some of its inputs filled in: a module to export, for the remaining `inputs` by position.

    `dynamic_shapes` are those of torch.export, one an input. `baked` are numbers among the graph's inputs
    that became part of the module, by position.
    """

    module: Any
    inputs: tuple[int, ...]
    dynamic_shapes: tuple[dict[int, Any], ...]
    baked: Mapping[int, Any]


class Graph:
    """A torch.fx.GraphModule of AOTAutograd, or a part of one."""

    def __init__(self, module: Any) -> None:
        self.module = module
        nodes = list(module.graph.nodes)
        self._inputs = [node for node in nodes if node.op == "placeholder"]
        (output,) = (node.args[0] for node in nodes if node.op == "output")
        #: Whether the graph returns its output itself, and not a tuple.
        self.is_single = not isinstance(output, tuple | list)
        results: list[Any] = []
        self.outputs = tuple(
            self._output(value, results) for value in ([output] if self.is_single else output)
        )
        self._results = tuple(results)

    def _output(self, value: Any, results: list[Any]) -> Output:
        import torch

        if not isinstance(value, torch.fx.Node):
            return Constant(value)
        if value.op == "placeholder":
            return Argument(self._inputs.index(value))
        if value not in results:
            results.append(value)
        position, kind = results.index(value), value.meta.get("val")
        for symbolic, number in ((torch.SymInt, int), (torch.SymFloat, float), (torch.SymBool, bool)):
            if isinstance(kind, symbolic | number):
                return Result(position, number)
        return Result(position, order=_order(kind))

    def known_as(self, operator: str) -> str:
        """The operator of the graph that torch.onnx calls `operator` after it took the graph apart: that, or
        one with a longer name, as aten.special_bessel_j0 is prims.bessel_j0.
        """
        names = [operator_name(node) for node in self.module.graph.nodes if node.op == "call_function"]
        suffix = "_" + operator.partition(".")[2]
        return operator if operator in names else next((n for n in names if n.endswith(suffix)), operator)

    @property
    def computes(self) -> bool:
        """Whether there is any result to compute."""
        return bool(self._results)

    def findings(self) -> list[Finding]:
        """What keeps the graph from being compiled although torch.onnx could export it."""
        import torch

        found = []
        for node in self.module.graph.nodes:
            if draws_random_numbers(node):
                found.append(_finding(operator_name(node), "it draws numbers from torch's generator"))
        for node in (*self._inputs, *self._results):
            value = node.meta.get("val")
            if not isinstance(
                value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool | int | float
            ):
                found.append(_finding(operator_name(node), f"{type(value).__name__} is no tensor"))
            elif isinstance(value, torch.Tensor) and value.device.type != "cpu":
                found.append(_finding(operator_name(node), f"its tensor lies on {value.device}"))
            elif isinstance(value, torch.Tensor) and value.is_complex():
                found.append(_finding(operator_name(node), "its tensor is complex"))
        return found

    def changed_inputs(self) -> frozenset[int]:
        """The inputs that the caller overwrites with outputs, as far as the graph tells."""
        (output,) = (node for node in self.module.graph.nodes if node.op == "output")
        changed = (getattr(item, "mutated_input", None) for item in output.meta.get("desc") or ())
        indices = (getattr(item, "idx", None) for item in changed)
        return frozenset(index for index in indices if isinstance(index, int))

    def close(self, values: Sequence[Any], constants: AbstractSet[int]) -> Closed:
        """The graph with the inputs at `constants` filled in from `values`, and with its symbolic numbers in
        terms of extents of the remaining tensors; those that are none are baked in.
        """
        import torch

        graph, root = torch.fx.Graph(), torch.nn.Module()
        made: dict[Any, Any] = {}
        inputs, dynamic_shapes = [], []
        extents: dict[Any, tuple[Any, int]] = {}
        baked: dict[int, Any] = {}
        for index, node in enumerate(self._inputs):
            value = node.meta["val"]
            if not isinstance(value, torch.Tensor):
                continue
            if index in constants:
                root.register_buffer(f"constant_{index}", values[index].detach())
                made[node] = graph.get_attr(f"constant_{index}")
                continue
            made[node] = graph.placeholder(f"input_{index}")
            shape: tuple[Any, ...] = tuple(value.shape)
            symbolic = [axis for axis, extent in enumerate(shape) if isinstance(extent, torch.SymInt)]
            for axis in symbolic:
                extents.setdefault(shape[axis].node.expr, (made[node], axis))
            inputs.append(index)
            dynamic_shapes.append(dict.fromkeys(symbolic, torch.export.Dim.AUTO))
        for index, node in enumerate(self._inputs):
            if node in made:
                continue
            made[node] = _from_extents(graph, extents, node.meta["val"])
            if made[node] is None:
                made[node] = baked[index] = values[index]
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                value = getattr(self.module, node.target)
                setattr(root, node.target.replace(".", "_"), value)
            if node.op not in ("placeholder", "output"):
                made[node] = graph.node_copy(node, made.__getitem__)
                made[node].target = originals().get(node.target, node.target)
        graph.output(tuple(made[node] for node in self._results))
        return Closed(torch.fx.GraphModule(root, graph).eval(), tuple(inputs), tuple(dynamic_shapes), baked)

    def split(self, operators: AbstractSet[str]) -> Any:
        """The graph as a GraphModule whose submodules are the parts without `operators`; None if there are
        none, or `operators` are not in the graph.
        """
        from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
        from torch.fx.passes.operator_support import create_op_support

        nodes = [node for node in self.module.graph.nodes if node.op == "call_function"]
        left_out = {node for node in nodes if operator_name(node) in operators}
        left_out |= {user for node in left_out for user in node.users if _takes_part(user)}
        support = create_op_support(lambda _, node: node.op == "call_function" and node not in left_out)
        partitioner = CapabilityBasedPartitioner(self.module, support, allows_single_node_partition=False)
        partitions = partitioner.propose_partitions() if left_out else []
        return partitioner.fuse_partitions(partitions) if partitions else None


def _symbolic() -> Any:
    """The types of numbers that depend on extents."""
    import torch

    return torch.SymInt | torch.SymFloat | torch.SymBool


def _from_extents(graph: Any, extents: Mapping[Any, tuple[Any, int]], number: Any) -> Any:
    """A node, or number, that computes a symbolic number from `extents`: axes of tensors by expression.

    The expressions are those of sympy; None where it takes more than sums and products of extents.
    """
    import torch

    def made(expression: Any) -> Any:
        if expression in extents:
            return graph.call_function(torch.ops.aten.sym_size.int, extents[expression])
        if expression.is_Integer:
            return int(expression)
        if not expression.is_Add and not expression.is_Mul:
            return None
        operands = [made(operand) for operand in expression.args]
        if any(operand is None for operand in operands):
            return None
        combine = operator.add if expression.is_Add else operator.mul
        return functools.reduce(lambda a, b: graph.call_function(combine, (a, b)), operands)

    return made(number.node.expr) if isinstance(number, torch.SymInt) else None


def _takes_part(node: Any) -> bool:
    """Whether a node takes an entry of a tuple."""
    return getattr(node.target, "__name__", "") == "getitem"


def _finding(operator: str, reason: str) -> Finding:
    return Finding(node="", operator=operator, domain="", opset=0, dtypes=(), shapes=(), reason=reason)


def refuse(findings: Sequence[Finding]) -> None:
    """UnsupportedError if there are findings."""
    if findings:
        raise UnsupportedError(f"{findings[0].operator}: {findings[0].reason}", findings=findings)


def _order(tensor: Any) -> tuple[int, ...] | None:
    """The axes of a tensor from the largest stride to the smallest; None if that is their own order."""
    strides = [_hint(stride) for stride in tensor.stride()]
    shape = [_hint(extent) for extent in tensor.shape]
    # Strides of single elements mean nothing: such axes go with the one behind them.
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            strides[axis] = strides[axis + 1] if axis + 1 < len(shape) else 1
    order = tuple(sorted(range(len(shape)), key=lambda axis: -strides[axis]))
    return None if order == tuple(range(len(shape))) else order


def _hint(extent: Any) -> int:
    """A number, or what a symbolic number was when the graph was traced."""
    return extent if isinstance(extent, int) else int(extent.node.hint)

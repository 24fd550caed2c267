"""Grouping: which operators share a kernel, and why (not).

The kernels of all nodes are fused step by step. A pointwise or movement kernel that is the only reader of a
contraction, reduction or norm becomes its epilogue; one that is read by a kernel is computed inside that
kernel's loads, where this repeats little work. Every decision is recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.errors import Finding, UnsupportedError
from dlc.ir.dims import FloorDiv, Mod, terms_of
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.control import If, Loop
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.movement import Reshape, Transpose
from dlc.ir.types import TensorType, is_object
from dlc.ir.widening import is_widening
from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.fuse import (
    Declined,
    append,
    expression_cost,
    inline,
    is_movement,
    reads_in_stages,
    realize,
    recomputes,
    single_store,
)
from dlc.lowering.inspect import loads, roots, stages
from dlc.lowering.kernel import Contract, Kernel, Recur, Routine
from dlc.lowering.program import Decision
from dlc.lowering.rules.registry import NotLowered, lower_node

#: Operations that may be repeated for each read rather than storing the result once.
CHEAP = 3
#: Parameters, and operations in all of its expressions, beyond which a kernel grows no further. Real models
#: have some 30 operations in a row; without a bound, time would grow with the square of the nodes.
MAX_PARAMS = 16
MAX_EXPRESSION = 256


@dataclasses.dataclass(frozen=True)
class HostNode:
    """A node without a kernel, and why."""

    node: Node
    reason: str


@dataclasses.dataclass(frozen=True)
class ControlNode:
    """A node whose regions are steps of the program."""

    node: Node


@dataclasses.dataclass(frozen=True)
class ViewNode:
    """A node whose result is its operand's memory under another shape."""

    node: Node


Item = LoweredKernel | HostNode | ViewNode | ControlNode


@dataclasses.dataclass
class Grouping:
    """The items of a program in order, and the decisions that led to them."""

    items: list[Item]
    decisions: list[Decision]


def group(graph: Graph, names: Names) -> Grouping:
    """Lower every node of `graph` and fuse what pays."""
    return _Grouper(graph, names).run()


class _Grouper:
    def __init__(self, graph: Graph, names: Names) -> None:
        self.graph = graph
        self.names = names
        self.items: list[Item] = []
        self.decisions: list[Decision] = []
        # What decides a symbol is read from memory, so it is stored as an output is.
        sources = {source.value for source in graph.symbols.values()}
        self.outputs = {*graph.outputs, *(value for value in graph.values() if value.name in sources)}

    def run(self) -> Grouping:
        for node in self.graph.nodes:
            self.items.append(self._lower(node))
        # Widened operands first, lest what computes them stores them wide.
        for widening in (True, False):
            while self._sweep(widening):
                pass
        return Grouping([_unmoved(item) for item in self.items], self.decisions)

    def _lower(self, node: Node) -> Item:
        if isinstance(node.op, If | Loop):
            return ControlNode(node)
        objects = [value.type for value in (*node.operands, *node.outputs) if is_object(value.type)]
        if objects:
            return HostNode(node, f"kernels work on tensors of numbers, not on {objects[0]}")
        if _is_view(node):
            return ViewNode(node)
        try:
            return lower_node(node, self.names)
        except NotLowered as reason:
            return HostNode(node, str(reason))

    # --- who reads and writes what

    def _readers(self) -> dict[Value, list[int]]:
        readers: dict[Value, list[int]] = {}
        for position in range(len(self.items)):
            for value in dict.fromkeys(self._reads(position)):
                readers.setdefault(value, []).append(position)
        return readers

    def _sweep(self, widening: bool) -> bool:
        """One pass over all kernels, or over those of `widening` nodes; whether anything was fused."""
        readers = self._readers()
        dropped: set[int] = set()
        fused = False
        for position, item in enumerate(self.items):
            if position in dropped or not isinstance(item, LoweredKernel) or len(item.outputs) != 1:
                continue
            (value,) = item.outputs
            users = readers.get(value, [])
            if value in self.outputs or not users or any(user in dropped for user in users):
                continue
            if widening and (value.producer is None or not is_widening(value.producer)):
                continue
            if self._fuse(position, item, value, users):
                dropped.add(position)
                fused = True
                self._take_over(readers, position, item, users)
        self.items = [item for position, item in enumerate(self.items) if position not in dropped]
        return fused

    def _take_over(
        self, readers: dict[Value, list[int]], position: int, item: LoweredKernel, users: list[int]
    ) -> None:
        """Note that what the kernel `item` at `position` read is read by those that it went into."""
        for value in item.inputs:
            others = {place for place in readers.get(value, []) if place != position}
            others.update(user for user in users if value in self._reads(user))
            readers[value] = sorted(others)

    def _reads(self, position: int) -> Sequence[Value]:
        """The values that an item reads."""
        item = self.items[position]
        return item.inputs if isinstance(item, LoweredKernel) else item.node.operands

    def _fuse(self, position: int, item: LoweredKernel, value: Value, users: list[int]) -> bool:
        """Fuse the kernel at `position` into its readers; whether it disappeared."""
        param = self.names.param(value)
        store = single_store(item.kernel)
        kernels = [self.items[user] for user in users]
        if not all(isinstance(kernel, LoweredKernel) for kernel in kernels):
            return False
        if value.producer is not None and isinstance(value.producer.op, Relayout):
            return False
        readers = [kernel for kernel in kernels if isinstance(kernel, LoweredKernel)]
        if store is None:
            if len(readers) != 1:
                self._decline(item, readers[0], "the result has several readers")
                return False
            if any(isinstance(v.producer.op, Relayout) for v in readers[0].outputs if v.producer is not None):
                self._decline(item, readers[0], "the result is stored in its own layout first")
                return False
            return self._try(users[0], item, readers[0], append(item, readers[0], param))
        new: list[LoweredKernel] = []
        for reader in readers:
            result = self._inlined(item, reader, param, store.value, len(readers))
            if isinstance(result, Declined):
                self._decline(item, reader, result.reason)
                return False
            new.append(result)
        for user, reader, result in zip(users, readers, new, strict=True):
            self.items[user] = result
            self._record(item, reader, True, "computed where it is read")
        return True

    def _try(
        self, user: int, item: LoweredKernel, reader: LoweredKernel, result: LoweredKernel | Declined
    ) -> bool:
        if isinstance(result, Declined):
            self._decline(item, reader, result.reason)
            return False
        if len(result.kernel.params) > MAX_PARAMS:
            self._decline(item, reader, "the kernel would have too many parameters")
            return False
        if operations(result.kernel) > MAX_EXPRESSION:
            self._decline(item, reader, "the kernel would have too many operations")
            return False
        self.items[user] = result
        self._record(item, reader, True, "applied to the result while it is in registers")
        return True

    def _inlined(
        self, item: LoweredKernel, reader: LoweredKernel, param: str, value: e.Expr, count: int
    ) -> LoweredKernel | Declined:
        """The reader with the producer inside, if that repeats little work."""
        if any(isinstance(stage, Routine) for stage in stages(reader.kernel.body)):
            return Declined("the reader is a routine that wants its operands in memory")
        if operations(item.kernel) + operations(reader.kernel) > MAX_EXPRESSION:
            return Declined("the kernel would have too many operations")
        cost = expression_cost(value)
        contract = any(isinstance(stage, Contract | Recur) for stage in stages(reader.kernel.body))
        masked = any(load.mask for load in loads(reader.kernel.body) if load.param == param)
        moved = _octets(value) or (value if masked else _unwidened(value))
        if contract and not is_movement(moved):
            return Declined("a contraction reads its operands many times")
        if count > 1 and cost > CHEAP:
            return Declined("several readers would each repeat the computation")
        if cost > CHEAP and recomputes(reader.kernel, param):
            return Declined("the reader would repeat the computation")
        if contract and _disturbs_rows(moved):
            return Declined("the reader would lose its contiguous rows")
        several = reads_in_stages(reader.kernel, param) > 1 and cost > CHEAP
        if several:
            indices = {load.index for load in loads(reader.kernel.body) if load.param == param}
            if len(indices) != 1 or any(
                load.mask for load in loads(reader.kernel.body) if load.param == param
            ):
                return Declined("several stages read it at different places")
            reader = realize(reader, param, self.names.local())
        result = inline(item, reader, param)
        if isinstance(result, Declined):
            return result
        if len(result.kernel.params) > MAX_PARAMS:
            return Declined("the kernel would have too many parameters")
        return result

    def _decline(self, producer: LoweredKernel, consumer: LoweredKernel, reason: str) -> None:
        self._record(producer, consumer, False, reason)

    def _record(self, producer: LoweredKernel, consumer: LoweredKernel, fused: bool, reason: str) -> None:
        decision = Decision(
            ", ".join(producer.kernel.origins), ", ".join(consumer.kernel.origins), fused, reason
        )
        if decision not in self.decisions[-64:]:
            self.decisions.append(decision)


def _is_view(node: Node) -> bool:
    """Whether the node only gives row-major memory another shape."""
    if not isinstance(node.op, Reshape):
        return False
    return all(value.tensor.layout is None for value in (*node.operands, *node.outputs))


def _unmoved(item: Item) -> Item:
    """A transposition that was fused with nothing as a view, where layouts make it move nothing."""
    if not isinstance(item, LoweredKernel) or len(item.inputs) != 1 or len(item.outputs) != 1:
        return item
    (source,), (target,) = item.inputs, item.outputs
    node = target.producer
    if node is None or not isinstance(node.op, Transpose) or node.operands[0] is not source:
        return item
    orders = _memory_order(source), _memory_order(target)
    if orders[0] is None or orders[1] is None:
        return item
    moved = [node.op.perm[axis] for axis in orders[1]]
    shape = source.tensor.shape
    unmoved = [axis for axis in moved if shape[axis] != 1] == [axis for axis in orders[0] if shape[axis] != 1]
    return ViewNode(node) if unmoved else item


def _memory_order(value: Value) -> tuple[int, ...] | None:
    """The axes of a value as they lie in memory; None for blocks and halos."""
    layout = value.tensor.layout
    return tuple(range(value.tensor.rank)) if layout is None else layout.permutation


def operations(kernel: Kernel) -> int:
    """The number of different expressions in a kernel."""
    return sum(1 for _ in e.walk(*(root for stage in stages(kernel.body) for root in roots(stage))))


def _unwidened(value: e.Expr) -> e.Expr:
    """`value` without its conversion from a 16-bit float, which costs a contraction no more than its load."""
    match value:
        case e.Cast(DType.F32, source, e.CastMode.RNE) if source.dtype in (DType.F16, DType.BF16):
            return source
    return value


def _octets(value: e.Expr) -> e.Expr | None:
    """The 8-bit integers that `value` converts to i32, perhaps minus a zero point; None if it is no such."""
    match value:
        case e.Cast(DType.I32, e.Load() as source) | e.Binary(
            DType.I32, "sub", e.Cast(DType.I32, e.Load() as source), e.Cast(DType.I32, e.Load()) | e.Load()
        ) if source.dtype in (DType.U8, DType.I8):
            return source
    return None


def _disturbs_rows(value: e.Expr) -> bool:
    """Whether reading through this movement expression needs divisions."""
    assert isinstance(value, e.Load)
    for entry in value.index:
        if isinstance(entry, e.Expr | int):
            continue
        if any(isinstance(monomial, FloorDiv | Mod) for monomial, _ in terms_of(entry)[0]):
            return True
    return False


def unsupported(node: Node, reason: str) -> UnsupportedError:
    """The error for a node that can run neither natively nor on the host."""
    types = [value.type for value in node.operands if isinstance(value.type, TensorType)]
    finding = Finding(
        node=", ".join(node.origin),
        operator=node.op.name,
        domain="",
        opset=0,
        dtypes=tuple(type_.dtype.text for type_ in types),
        shapes=tuple(str(type_) for type_ in types),
        reason=reason,
        hint="fix the sizes or values that it depends on, so that one branch remains",
    )
    return UnsupportedError(f"dlc does not compile {node.op.name}: {reason}", findings=(finding,))

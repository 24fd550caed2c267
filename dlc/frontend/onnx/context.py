"""What an importer of one ONNX node sees: operands, attributes, opset, and the graph under construction."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from dlc.errors import Finding, ModelError, UnsupportedError
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Value
from dlc.ir.operator import Array, Operator
from dlc.ir.types import TensorType

if TYPE_CHECKING:
    from onnx import GraphProto

    from dlc.frontend.onnx.graph_importer import GraphImporter
    from dlc.frontend.onnx.learned import Place
    from dlc.frontend.onnx.scope import Scope

DimArray: TypeAlias = "np.ndarray[Any, np.dtype[np.object_]]"


class NodeContext:
    """One ONNX node being imported.

    Importers read operands and attributes from it, add operators through it and return the node's outputs.
    Dims of small integer tensors are tracked symbolically: `dims(i)` is the content of operand i as Dims,
    whatever chain of Shape, Gather, Concat and arithmetic it came through.
    """

    def __init__(
        self,
        importer: GraphImporter,
        op_type: str,
        domain: str,
        opset: int,
        name: str,
        operands: Sequence[Value | None],
        attributes: dict[str, Any],
        output_names: Sequence[str],
        scope: Scope,
    ) -> None:
        self.importer = importer
        self.op_type = op_type
        self.domain = domain
        self.opset = opset
        self.name = name
        self.operands = tuple(operands)
        self.attributes = attributes
        self.output_names = tuple(output_names)
        self.scope = scope
        self.builder = GraphBuilder(importer.graph, origin=(name,), guarded=True)

    # --- operands

    def optional(self, index: int) -> Value | None:
        """Operand `index`, or None when it is absent."""
        return self.operands[index] if index < len(self.operands) else None

    def required(self, index: int) -> Value:
        """Operand `index`; ModelError when it is absent."""
        value = self.optional(index)
        if value is None:
            self.fail(f"operand {index} is missing")
        return value

    def single(self, index: builtins.int) -> Value:
        """Operand `index`, which must hold one element: a scalar, or what exporters write for one."""
        value = self.required(index)
        if not isinstance(value.type, TensorType) or value.type.elements != 1:
            self.fail(f"operand {index} must hold one element, but is {value.type}")
        return value

    def wants(self, index: int) -> bool:
        """Whether the node names output `index`."""
        return index < len(self.output_names) and bool(self.output_names[index])

    @property
    def place(self) -> Place:
        """What tells the node from all others of the model."""
        return self.name, self.scope.depth, tuple(self.output_names)

    def declared_rank(self, index: builtins.int) -> builtins.int | None:
        """The rank that the model claims output `index` to have, if it does."""
        return self.scope.declared_rank(self.output_names[index]) if self.wants(index) else None

    def constant(self, index: int) -> Array | None:
        """The content of operand `index` when it is known at compile time, else None (absent or computed)."""
        value = self.optional(index)
        return None if value is None else self.importer.constant(value)

    def known_dims(self, index: int) -> DimArray | None:
        """The content of integer operand `index` as an object array of Dims; None if it is run-time data."""
        value = self.optional(index)
        return None if value is None else self.importer.known_dims(value)

    def dims(self, index: int) -> tuple[Dim, ...]:
        """The content of the integer operand `index`, flattened; run-time data becomes new symbols."""
        return tuple(self.importer.dims(self.required(index), self).reshape(-1))

    def dims_of(self, value: Value) -> tuple[Dim, ...]:
        """The content of any integer value, flattened; run-time data (a count, say) becomes new symbols."""
        return tuple(self.importer.dims(value, self).reshape(-1))

    def set_dims(self, value: Value, content: DimArray) -> None:
        """Record that integer `value` holds `content` (same shape)."""
        self.importer.contents[value] = content

    # --- attributes

    def _typed(self, key: str, default: Any, kind: type | tuple[type, ...], what: str) -> Any:
        value = self.attributes.get(key, default)
        if value is None or isinstance(value, kind):
            return value
        self.fail(f"attribute {key!r} must be {what}, but is {type(value).__name__}", "model/attribute")

    def int(self, key: str, default: builtins.int | None = None) -> builtins.int:
        """Integer attribute; ModelError when absent without a default."""
        value: builtins.int = self._needed(key, self._typed(key, default, int, "an integer"))
        return value

    def float(self, key: str, default: builtins.float | None = None) -> builtins.float:
        """Float attribute or default, a float32 number as in ONNX; ModelError when there is neither."""
        return float(np.float32(self._needed(key, self._typed(key, default, (float, int), "a number"))))

    def string(self, key: str, default: str | None = None) -> str:
        """String attribute; ModelError when absent without a default."""
        value: str = self._needed(key, self._typed(key, default, str, "a string"))
        return value

    def ints(self, key: str, default: Sequence[builtins.int] | None = None) -> tuple[builtins.int, ...]:
        """Attribute of integers; ModelError when absent without a default."""
        return tuple(self._needed(key, self._typed(key, default, (list, tuple), "a list of integers")))

    def floats(self, key: str, default: Sequence[builtins.float] | None = None) -> tuple[builtins.float, ...]:
        """Attribute of floats; ModelError when absent without a default."""
        return tuple(self._needed(key, self._typed(key, default, (list, tuple), "a list of numbers")))

    def dtype(self, key: str, default: DType | None = None) -> DType:
        """Attribute that holds a TensorProto.DataType; ModelError when absent without a default."""
        if key not in self.attributes and default is not None:
            return default
        return element_type(self.int(key), f"attribute {key!r}")

    def graph(self, key: str) -> GraphProto:
        """Subgraph attribute; ModelError when absent."""
        from onnx import GraphProto

        graph: GraphProto = self._needed(key, self._typed(key, None, GraphProto, "a graph"))
        return graph

    def has(self, key: str) -> bool:
        """Whether the attribute is present."""
        return key in self.attributes

    def strings(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Attribute of strings; ModelError when absent without a default."""
        return tuple(self._needed(key, self._typed(key, default, (list, tuple), "a list of strings")))

    def _needed(self, key: str, value: Any) -> Any:
        if value is None:
            self.fail(f"attribute {key!r} is missing", "model/attribute")
        return value

    # --- construction

    def add(self, op: Operator, *inputs: Value | None) -> Value:
        """Append an operator; returns its first output."""
        return self.builder.add(op, *inputs, names=[self.output_names[0]] if self.output_names else ())

    def add_all(
        self, op: Operator, *inputs: Value | None, regions: Sequence[Graph] = ()
    ) -> tuple[Value, ...]:
        """Append an operator; returns all its outputs."""
        return self.builder.add_all(
            op, *inputs, names=[name or "unused" for name in self.output_names], regions=regions
        )

    def const(
        self, data: Array | builtins.float | builtins.int | Sequence[builtins.int], dtype: DType | None = None
    ) -> Value:
        """A constant operand."""
        return self.builder.constant(np.asarray(data), dtype=dtype)

    # --- errors

    def fail(self, reason: str, code: str = "model") -> NoReturn:
        """The node breaks the standard: ModelError that names it."""
        raise ModelError(f"{self.op_type}: {reason}", node=self.name, code=code)

    def unsupported(self, reason: str, hint: str = "") -> NoReturn:
        """The node is legal, but dlc cannot run it: UnsupportedError with one finding (all are collected)."""
        found = finding(self.op_type, self.domain, self.opset, self.name, self.operands, reason, hint)
        raise UnsupportedError(reason, findings=(found,))


def finding(
    op_type: str,
    domain: str,
    opset: int,
    name: str,
    operands: Sequence[Value | None],
    reason: str,
    hint: str = "",
) -> Finding:
    """What is unsupported about a node, with the types of its operands."""
    types = [None if value is None else value.type for value in operands]
    dtypes = tuple(t.dtype.text if isinstance(t, TensorType) else "-" if t is None else str(t) for t in types)
    shapes = tuple(str(t)[len(t.dtype.text) :] if isinstance(t, TensorType) else "" for t in types)
    return Finding(name, op_type, domain, opset, dtypes, shapes, reason, hint or None)


Importer: TypeAlias = Callable[[NodeContext], "Value | Sequence[Value | None]"]

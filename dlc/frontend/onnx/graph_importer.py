"""The driver of the import: nodes in order, each through its importer, into one graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dlc.errors import (
    Error,
    Finding,
    InternalError,
    ModelError,
    UnsupportedError,
    printable,
)
from dlc.frontend.onnx import registry
from dlc.frontend.onnx.attributes import decode_all
from dlc.frontend.onnx.constants import ConstantEvaluator
from dlc.frontend.onnx.contents import Contents
from dlc.frontend.onnx.context import DimArray, NodeContext, finding
from dlc.frontend.onnx.elements import Known
from dlc.frontend.onnx.functions import FunctionTable, normalize_domain, opset_imports
from dlc.frontend.onnx.learned import Learned
from dlc.frontend.onnx.open_scalars import OpenScalars
from dlc.frontend.onnx.ordering import ordered
from dlc.frontend.onnx.schema import check_form, exists, form_of
from dlc.frontend.onnx.scope import Missing, Scope
from dlc.frontend.onnx.tensors import TensorReader
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Guard, Relation, free_symbols, is_nonnegative, to_text
from dlc.ir.graph import Graph, Node, NotATensorError, Value
from dlc.ir.operator import Array, InferenceError
from dlc.ir.types import OpenTensorType, TensorType, Type
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

#: Versions of the standard operator set whose meaning the importers follow.
OLDEST_OPSET = 1
NEWEST_OPSET = 28


#: Operators that take a tensor whose rank only the run tells: they pass it on.
_TAKE_ANY_RANK = frozenset(
    "Identity If Loop Optional OptionalGetElement OptionalHasElement "
    "SequenceConstruct SequenceInsert SequenceMap".split()
)


class _Poisoned(Exception):
    """A node reads the result of one that could not be imported."""


@dataclasses.dataclass
class _Spent:
    """What one import has taken in so far: nodes, those of functions and those of random numbers among them.
    """

    nodes: int = 0
    inlined: int = 0
    random: int = 0


class GraphImporter:
    """Imports the nodes of one model into `graph`; NodeContext is the face that it shows to importers.

    `findings` collects what is unsupported: the outputs of such nodes are poisoned, and what reads them
    skipped. The importer of a region shares the account of its `parent`. `draw` tells apart the times that
    the graph is run within one run of the model: it depends on the iterations of the loops around.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: TensorReader,
        functions: FunctionTable,
        contents: Contents,
        limits: Limits,
        parent: GraphImporter | None = None,
    ) -> None:
        self.graph = graph
        self.tensors = tensors
        self.functions = functions
        self.symbolic = contents
        self.limits = limits
        self.draw: Dim = parent.draw if parent else 0
        #: What sequences and optionals consist of.
        self.known: Known = Known(contents.captured, parent.known if parent else None)
        self.findings: list[Finding] = parent.findings if parent else []
        self._evaluator = ConstantEvaluator(limits)
        self._bound: set[Value] = set()
        #: Extents of results that are known, or required, not to be negative.
        self._extents: set[Dim] = set()
        self._spent: _Spent = parent._spent if parent else _Spent()
        self.learned: Learned = parent.learned if parent else Learned()
        self.open_scalars = OpenScalars()

    # --- what importers ask

    @property
    def contents(self) -> dict[Value, DimArray]:
        """Integer values that are known symbolically, see `dlc.frontend.onnx.contents`."""
        return self.symbolic.known

    def constant(self, value: Value) -> Array | None:
        """The content of `value` if it is known at compile time, else None."""
        if value.data is not None:
            return value.data
        known = self.symbolic.numbers(value)
        return known if known is not None else self._evaluator.constant(value)

    def known_dims(self, value: Value) -> DimArray | None:
        """The content of an integer value as an object array of Dims, or None when any of it is run-time
        data.
        """
        known = self.symbolic.dims(value)
        if known is None and isinstance(value.type, TensorType) and value.type.dtype.is_integer:
            array = self._evaluator.constant(value)
            known = None if array is None else array.astype(object)
        return known

    def dims(self, value: Value, ctx: NodeContext) -> DimArray:
        """The content of an integer value as Dims; what is run-time data becomes new symbols of the graph."""
        known = self.known_dims(value)
        if known is not None:
            return known
        type_ = value.type
        if not isinstance(type_, TensorType) or not type_.dtype.is_integer or not type_.is_static:
            ctx.unsupported(f"an operand that decides a shape is {type_}, not integers of known number")
        self.limits.check(
            "rank",
            math.prod(type_.static_shape),
            "extents that one operand decides",
            node=ctx.name,
        )
        return self.symbolic.bound(value)

    def next_stream(self) -> int:
        """A number that no other node of random numbers gets."""
        self._spent.random += 1
        return self._spent.random

    def inline(self, graph: GraphProto, ctx: NodeContext, operands: Sequence[Value] = ()) -> list[Value]:
        """Import the nodes of a subgraph of `ctx`'s node in place, with `operands` as its inputs; returns the
        values of its outputs.
        """
        scope = ctx.scope.inner(ctx.name)
        self.limits.check("depth", scope.depth, "nesting of subgraphs", node=ctx.name)
        if len(graph.input) != len(operands):
            ctx.fail(f"a subgraph has {len(graph.input)} inputs, not {len(operands)}")
        for info, operand in zip(graph.input, operands):
            scope.define(info.name, operand)
        self.define_initializers(graph, scope)
        self.import_nodes(graph.node, scope)
        return list(self.read(scope, [info.name for info in graph.output]))

    def of_region(self, graph: Graph) -> GraphImporter:
        """The importer of a region `graph` of a node of this graph."""
        contents = Contents(graph, self.symbolic.fresh, self.symbolic)
        return GraphImporter(graph, self.tensors, self.functions, contents, self.limits, self)

    # --- graphs

    def define_initializers(self, graph: GraphProto, scope: Scope) -> set[str]:
        """Enter the initializers of a graph as constants, and what it declares; returns their names."""
        scope.declare((*graph.value_info, *graph.output))
        names = set()
        for tensor in graph.initializer:
            array = self.tensors.dense(tensor, f"initializer '{printable(tensor.name)}'")
            self._define_constant(tensor.name, array, scope)
            names.add(tensor.name)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            self._define_constant(
                name, self.tensors.sparse(sparse, f"initializer '{printable(name)}'"), scope
            )
            names.add(name)
        return names

    def _define_constant(self, name: str, array: Array, scope: Scope) -> None:
        if not name:
            raise ModelError("an initializer has no name", code="model/graph")
        value = GraphBuilder(self.graph).constant(array, name)
        self._bound.add(value)
        scope.define(name, value)

    def define_input(self, value: Value, scope: Scope) -> None:
        """Enter a graph input."""
        self._bound.add(value)
        scope.define(value.name, value)

    def import_nodes(self, nodes: Sequence[NodeProto], scope: Scope) -> None:
        """Import `nodes`, in an order that respects what they read."""
        self._spent.nodes += len(nodes)
        self.limits.check("nodes", self._spent.nodes, "nodes of the model")
        order = ordered(nodes, scope.defines, scope.sees)
        if scope.is_main:
            self.graph.reserve(name for node in nodes for name in node.output)
        for position in order:
            node = nodes[position]
            name = node.name or f"{node.op_type}_{position}"
            self._import_node(node, f"{scope.prefix}/{name}" if scope.prefix else name, scope)

    def read_outputs(self, names: Iterable[str], scope: Scope) -> list[Value] | None:
        """The values of graph outputs; None when one of them is poisoned."""
        try:
            values = list(self.read(scope, names))
        except _Poisoned:
            return None
        found = self.open_scalars.origin(values)
        self.findings += [] if found is None else [found]
        return values

    def read(self, scope: Scope, names: Iterable[str]) -> Iterator[Value]:
        """The values that `names` stand for, to be called by importers: a poisoned one poisons their node."""
        for name in names:
            match scope.find(name):
                case Value() as value:
                    yield value
                case Missing.POISONED:
                    raise _Poisoned
                case Missing.ABSENT:
                    raise ModelError(
                        f"the output '{printable(name)}' is an operand that the caller left out",
                        code="model/function",
                    )

    # --- nodes

    def _import_node(self, node: NodeProto, name: str, scope: Scope) -> None:
        """Import one node and define its outputs, which are poisoned when it cannot be imported."""
        first_new = len(self.graph.nodes)
        try:
            results = self._results(node, name, scope)
        except _Poisoned:
            self._poison(node, scope)
        except UnsupportedError as error:
            domain = normalize_domain(node.domain)
            opset = scope.opsets.get(domain, 0)
            self.findings += error.findings or [finding(node.op_type, domain, opset, name, (), error.message)]
            self._poison(node, scope)
        except InferenceError as error:
            raise ModelError(f"{printable(node.op_type)}: {error}", node=name, code="model/type") from None
        except NotATensorError as error:
            self._refuse_type(node, name, scope, error.type)
        except Error as error:
            error.node = error.node or name
            raise
        except (MemoryError, RecursionError, UnicodeDecodeError):
            raise
        except Exception as error:
            raise InternalError(
                f"the importer of {printable(node.op_type)} failed with {type(error).__name__}: "
                f"{printable(str(error))}",
                node=name,
            ) from error
        else:
            self._define_results(node, name, results, scope)
            for item in self.graph.nodes[first_new:]:
                self._check_sizes(item, name)

    def _results(self, node: NodeProto, name: str, scope: Scope) -> list[Value | None]:
        """Find out what `node` is, and let that add to the graph; returns its outputs."""
        operands = [self._operand(item, scope) for item in node.input]
        function = self.functions.find(node)
        if function is not None:
            return list(self._call(function, node, operands, name, scope))
        domain = normalize_domain(node.domain)
        opset = scope.opsets.get(domain, 0)
        importer = registry.find(domain, node.op_type, opset) if opset else None
        if domain == "" and opset:
            check_form(node, opset)
        if importer is None:
            form = None if domain else form_of(node.op_type, opset)
            if form is not None and form.function is not None:
                return list(self._call(form.function, node, operands, name, scope, form.defaults))
            return self._refuse(node, name, domain, opset, operands)
        for operand in operands:
            is_open = operand is not None and isinstance(operand.type, OpenTensorType)
            if operand is not None and is_open and node.op_type not in _TAKE_ANY_RANK:
                raise NotATensorError(operand)
        attributes = decode_all(node.attribute, self.tensors, scope.attributes)
        ctx = NodeContext(self, node.op_type, domain, opset, name, operands, attributes, node.output, scope)
        self.open_scalars.check(node.op_type, operands)
        results = importer(ctx)
        results = [results] if isinstance(results, Value) else list(results)
        self.open_scalars.follow(node.op_type, operands, results)
        return results

    def _operand(self, name: str, scope: Scope) -> Value | None:
        found = scope.find(name) if name else Missing.ABSENT
        if found is Missing.POISONED:
            raise _Poisoned
        return found if isinstance(found, Value) else None

    def _call(
        self,
        function: FunctionProto,
        node: NodeProto,
        operands: Sequence[Value | None],
        name: str,
        caller: Scope,
        defaults: Sequence[AttributeProto] = (),
    ) -> Iterator[Value]:
        """Inline one call of a function; `defaults` are attributes that its own do not tell."""
        self._spent.inlined += len(function.node)
        self.limits.check(
            "inlined_nodes", self._spent.inlined, "nodes after functions are inlined", node=name
        )
        if len(operands) > len(function.input) or len(node.output) > len(function.output):
            raise ModelError(
                f"the function {printable(function.name)} takes {len(function.input)} operands and gives "
                f"{len(function.output)} results",
                node=name,
                code="model/function",
            )
        attributes = decode_all([*defaults, *function.attribute_proto], self.tensors, {})
        attributes |= decode_all(node.attribute, self.tensors, caller.attributes)
        unknown = sorted(
            attributes.keys() - {*function.attribute, *(a.name for a in function.attribute_proto)}
        )
        if unknown:
            raise ModelError(
                f"the function {printable(function.name)} has no attribute '{printable(unknown[0])}'",
                node=name,
                code="model/function",
            )
        opsets = opset_imports(function.opset_import, 0, "a function") or caller.opsets
        check_opset(opsets)
        scope = Scope(opsets, attributes=attributes, prefix=name, depth=caller.depth + 1)
        padded = [*operands, *[None] * (len(function.input) - len(operands))]
        for formal, operand in zip(function.input, padded, strict=True):
            scope.define(formal, Missing.ABSENT if operand is None else operand)
        self.import_nodes(function.node, scope)
        return self.read(scope, function.output[: len(node.output)])

    def _refuse(
        self, node: NodeProto, name: str, domain: str, opset: int, operands: Sequence[Value | None]
    ) -> list[Value | None]:
        """Report a node that nothing imports."""
        shown = printable(f"{domain}::{node.op_type}" if domain else node.op_type)
        if not opset:
            raise ModelError(
                f"{shown} is used, but the model does not import its operator set "
                f"'{printable(domain or 'ai.onnx')}'",
                node=name,
            )
        hint = ""
        if domain == "":
            if not exists(node.op_type):
                raise ModelError(f"ONNX has no operator {shown}", node=name)
        elif domain in ("com.microsoft", "com.microsoft.nchwc"):
            hint = "export the model without optimizing it with onnxruntime"
        reason = f"dlc does not compile the operator {shown}"
        raise UnsupportedError(
            reason, findings=(finding(node.op_type, domain, opset, name, operands, reason, hint),)
        )

    def _refuse_type(self, node: NodeProto, name: str, scope: Scope, found: Type) -> None:
        """Report an operand that is no tensor, or one whose rank only the run tells."""
        if not isinstance(found, OpenTensorType):
            message = f"{printable(node.op_type)}: an operand is {found}, not a tensor"
            raise ModelError(message, node=name, code="model/type")
        domain = normalize_domain(node.domain)
        reason = f"the rank of an operand, {found}, is not known"
        hint = "declare the rank in the model, or give the dims of the sequence with shapes={...}"
        opset = scope.opsets.get(domain, 0)
        self.findings.append(finding(node.op_type, domain, opset, name, (), reason, hint))
        self._poison(node, scope)

    def _poison(self, node: NodeProto, scope: Scope) -> None:
        for output in filter(None, node.output):
            scope.define(output, Missing.POISONED)

    def _define_results(
        self, node: NodeProto, name: str, results: Sequence[Value | None], scope: Scope
    ) -> None:
        """Let the output names of `node` stand for `results`; new values of the main graph take them."""
        for index, output in enumerate(node.output):
            if not output:
                continue
            value = results[index] if index < len(results) else None
            if value is None:
                raise ModelError(f"{printable(node.op_type)} has no output {index}", node=name)
            if scope.is_main and value not in self._bound:
                self._bound.add(value)
                value.name = output
            scope.define(output, value)

    def _check_sizes(self, node: Node, name: str) -> None:
        """LimitError when a result has more axes or elements than the limits allow. Extents that data gives
        must not be negative, which becomes a guard.
        """
        for value in node.outputs:
            if isinstance(value.type, TensorType):
                self._require_extents(value.type, name)
                self.limits.check("rank", value.type.rank, "rank of a result", node=name)
                known = [dim for dim in value.type.shape if isinstance(dim, int)]
                self.limits.check(
                    "tensor_elements", max((math.prod(known), *known)), "elements of a result", node=name
                )
                elements = value.type.elements
                if isinstance(elements, int):
                    self.limits.check(
                        "tensor_bytes", elements * value.type.dtype.itemsize, "bytes of a result", node=name
                    )

    def _require_extents(self, type_: TensorType, name: str) -> None:
        for dim in type_.shape:
            signed = any(symbol.lo is None or symbol.lo < 0 for symbol in free_symbols(dim))
            if signed and dim not in self._extents and not is_nonnegative(dim):
                message = f"the extent {to_text(dim)} of a result is negative"
                self.graph.guards.append(Guard(Relation.LE, 0, dim, message, name))
            self._extents.add(dim)


def check_opset(opsets: Mapping[str, int]) -> None:
    """UnsupportedError for a standard operator set whose meaning the importers do not follow."""
    version = opsets.get("")
    if version is not None and not OLDEST_OPSET <= version <= NEWEST_OPSET:
        reason = f"opset {version} is outside of {OLDEST_OPSET}..{NEWEST_OPSET}"
        hint = (
            "convert the model with onnx.version_converter"
            if version < OLDEST_OPSET
            else "export an older opset"
        )
        raise UnsupportedError(
            f"{reason}, the versions that dlc follows",
            hint=hint,
            findings=(Finding("", "", "", version, (), (), reason, hint),),
        )

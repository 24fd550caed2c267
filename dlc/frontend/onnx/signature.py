"""Inputs and outputs of a model: declared types to ours, names of dims to symbols, the user's `shapes`
applied.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dlc.errors import Finding, InputError, ModelError, UnsupportedError, printable
from dlc.frontend.onnx.tensors import checked_shape, element_type
from dlc.frontend.onnx.type_protos import declared_type, kinds, tensor_shapes, with_extents
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Guard, Relation, Symbol, terms_of, to_text
from dlc.ir.graph import Graph, ShapeSource, Value
from dlc.ir.ops.optionals import OptionalGetElement
from dlc.ir.text import RESERVED
from dlc.ir.types import ElementType, OptionalType, SequenceType, TensorType, Type, element_dtype, opened
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import TensorShapeProto, TypeProto, ValueInfoProto

#: An entry of `shapes`: a symbol's fixed extent, its (minimum, typical, maximum), or the dims of an input.
ShapeSpec: TypeAlias = "int | Sequence[int | str | None]"

logger = logging.getLogger("dlc")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """A graph input: its name, type, and the model's own name of each symbolic dim (or None) of a tensor."""

    name: str
    type: Type
    dim_names: tuple[str | None, ...]


class Signature:
    """Declares the inputs of a graph and keeps its symbols.

    `shapes` is the user's mapping: {"batch": 1} fixes a named dim, {"batch": (1, 8, 64)} hints its minimum,
    typical and maximum, {"x": (1, None, "length")} gives an input's dims (None leaves one as it is).
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, ShapeSpec], limits: Limits) -> None:
        self.graph = graph
        self.limits = limits
        self.shapes = dict(shapes)
        #: Name of a dim, as the model or the user writes it -> the symbol or number that stands for it.
        self.dims: dict[str, Dim] = {}
        #: Symbol name -> (minimum, typical, maximum) extent.
        self.hints: dict[str, tuple[int, int, int]] = {}
        self.inputs: list[InputSpec] = []
        self._taken: set[str] = set(RESERVED)
        #: How many symbols were named after a wish that was taken.
        self._counts: dict[str, int] = {}
        self._used: set[str] = set()

    def declare(self, infos: Sequence[ValueInfoProto]) -> Iterator[Value]:
        """Add the inputs to the graph, in order.

        Raises ModelError for malformed types, UnsupportedError for tensors without a rank and kinds that
        are neither tensors nor sequences or optionals of them, and InputError (code "input/option") for
        entries of `shapes` that fit nothing.
        """
        check_names([info.name for info in infos], "input")
        declared = [(info.name, None if _is_container(info) else self._wishes(info)) for info in infos]
        for (name, wishes), info in zip(declared, infos, strict=True):
            what = f"input '{printable(name)}'"
            if wishes is None:
                container = self._container(info, what)
                self.inputs.append(InputSpec(name, container, ()))
                yield self.graph.add_input(name, container)
                continue
            dtype = element_type(info.type.tensor_type.elem_type, what)
            dims = [self._dim(name, axis, wish) for axis, wish in enumerate(wishes)]
            checked_shape([dim for dim in dims if isinstance(dim, int)], dtype, self.limits, what)
            type_ = TensorType(dtype, tuple(dims))
            value = self.graph.add_input(name, type_)
            names = tuple(
                str(wish) if isinstance(wish, str) and isinstance(dim, Symbol) else None
                for wish, dim in zip(wishes, dims, strict=True)
            )
            self.inputs.append(InputSpec(name, type_, names))
            yield value
        self._refuse_unused()

    def _container(self, info: ValueInfoProto, what: str) -> ElementType:
        """The type of a sequence or optional; `shapes` may give the dims of its tensors."""
        type_ = declared_type(info.type, what)
        given = self.shapes.get(info.name)
        if given is not None and not isinstance(given, int):
            self._used.add(info.name)
            type_ = with_extents(type_, given, what)
        for dims in tensor_shapes(type_):
            known = [dim for dim in dims if isinstance(dim, int)]
            checked_shape(known, element_dtype(type_), self.limits, what)
            self.limits.check("rank", len(dims), f"rank of {what}")
        return type_

    def fresh(self, wish: str, lo: int | None = 0) -> Symbol:
        """A symbol of at least `lo`, named after `wish` as far as the syntax of dims allows."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", wish)[:60]
        base = base if re.match(r"[A-Za-z_]", base) else f"d_{base}"
        name = base
        while name in self._taken:
            self._counts[base] = count = self._counts.get(base, 0) + 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return Symbol(name, lo=lo)

    def _wishes(self, info: ValueInfoProto) -> list[int | str | None]:
        """What each dim of an input should be: a number, a name, or None (unnamed), `shapes` considered."""
        what = f"input '{printable(info.name)}'"
        dims = _declared_dims(info, what)
        given = self.shapes.get(info.name)
        if given is None or isinstance(given, int):
            if dims is None:
                raise _without_rank(info.name)
            return dims
        self._used.add(info.name)
        if dims is None:
            dims = [None] * len(given)
        if len(given) != len(dims):
            raise InputError(
                f"shapes gives {len(given)} dims for {what}, which has {len(dims)}", code="input/option"
            )
        for axis, (wish, dim) in enumerate(zip(given, dims, strict=True)):
            if wish is None or wish == dim:
                continue
            if isinstance(dim, int):
                raise InputError(
                    f"shapes gives {wish} for axis {axis} of {what}, but the model fixes it to {dim}",
                    code="input/option",
                )
            if isinstance(dim, str) and isinstance(wish, int):
                self._fix(dim, wish)
            dims[axis] = wish
        return dims

    def _fix(self, name: str, extent: int) -> None:
        """Let the named dim be `extent` in every input."""
        if self.shapes.setdefault(name, extent) != extent and isinstance(self.shapes[name], int):
            raise InputError(f"shapes gives two extents for '{printable(name)}'", code="input/option")
        self.shapes[name] = extent
        self._used.add(name)

    def _dim(self, name: str, axis: int, wish: int | str | None) -> Dim:
        """The dim of one axis of an input; a new symbol is declared with this axis as its source."""
        if isinstance(wish, int):
            if wish < 0:
                raise ModelError(
                    f"axis {axis} of input '{printable(name)}' has the negative extent {wish}",
                    hint="a dim that is unknown must have a name or no value",
                    code="model/type",
                )
            return wish
        key = wish or f"{name}_{axis}"
        known = self.dims.get(key) if wish else None
        if known is not None:
            return known
        given = self.shapes.get(key)
        if given is not None:
            self._used.add(key)
        if isinstance(given, int):
            self.dims[key] = given
            return given
        symbol = self.fresh(key)
        self.dims[key] = symbol
        self.graph.symbols[symbol] = ShapeSource(name, axis)
        if given is not None:
            self.hints[symbol.name] = _hint(key, given)
        return symbol

    def _refuse_unused(self) -> None:
        for name in self.shapes:
            if name not in self._used:
                known = sorted({*self.dims, *(spec.name for spec in self.inputs)})
                raise InputError(
                    f"shapes names '{printable(name)}', which is neither a symbolic dim nor an input",
                    hint=f"the model has {printable(', '.join(known))}",
                    code="input/option",
                )


def _is_container(info: ValueInfoProto) -> bool:
    """Whether an input is a sequence, a map or an optional."""
    return info.type.WhichOneof("value") in ("sequence_type", "map_type", "optional_type")


def _declared_dims(info: ValueInfoProto, what: str) -> list[int | str | None] | None:
    """The dims as the model declares them: numbers, names or None; None altogether when even the rank is
    absent.
    """
    kind = info.type.WhichOneof("value")
    if kind is None:
        raise ModelError(f"{what} declares no type", code="model/type")
    if kind != "tensor_type":
        raise UnsupportedError(
            f"{what} is no tensor",
            findings=(
                Finding(info.name, "input", "", 0, (kind,), (), f"inputs of kind {kind} are not supported"),
            ),
        )
    if not info.type.tensor_type.HasField("shape"):
        return None
    return [_declared_dim(dim) for dim in info.type.tensor_type.shape.dim]


def _declared_dim(dim: TensorShapeProto.Dimension) -> int | str | None:
    """A number, a name or None. Some exporters write -1 or "?" for what they do not know."""
    if dim.HasField("dim_value") and dim.dim_value != -1:
        return dim.dim_value
    return dim.dim_param if any(map(str.isalnum, dim.dim_param)) else None


def _without_rank(name: str) -> UnsupportedError:
    reason = "the input declares no shape"
    hint = "give its dims, for example shapes={'" + printable(name) + "': ('batch', 3, 224, 224)}"
    return UnsupportedError(
        f"{reason}: '{printable(name)}'",
        hint=hint,
        findings=(Finding(name, "input", "", 0, (), (), reason, hint),),
    )


def _hint(name: str, given: Sequence[int | str | None]) -> tuple[int, int, int]:
    match tuple(given):
        case (int(low), int(typical), int(high)) if 0 <= low <= typical <= high:
            return low, typical, high
    raise InputError(
        f"shapes['{printable(name)}'] must be an extent or (minimum, typical, maximum)", code="input/option"
    )


def forced_extents(graph: Graph, signature: Signature) -> dict[str, int]:
    """Named dims of inputs for which the guards of `graph` allow one extent only, with that extent.

    Exporters leave open what their example fixed: a batch that must equal the 1 of a recurrent state.
    """
    names = {symbol: name for name, symbol in signature.dims.items() if isinstance(symbol, Symbol)}
    forced: dict[str, int] = {}
    for guard in graph.guards:
        terms, constant = terms_of(guard.left - guard.right)
        if guard.relation is not Relation.EQ or len(terms) != 1:
            continue
        symbol, coefficient = terms[0]
        if isinstance(symbol, Symbol) and symbol in names:
            if constant % coefficient or -constant // coefficient < 0:
                raise ModelError(guard.message, node=guard.origin, code="model/type")
            forced.setdefault(names[symbol], -constant // coefficient)
    return forced


def squeezed_extents(
    guards: Sequence[Guard], signature: Signature, outputs: Sequence[tuple[ValueInfoProto, object]]
) -> dict[str, int]:
    """Named dims of inputs that must be 1 for outputs to have the rank that the model declares.

    A Squeeze that names no axes drops whatever is 1. Importing assumes that symbolic extents are not; where
    an output then has more axes than declared, the exporter's example had an extent of 1 there. Where more
    extents than are too many could be the ones, those that the declaration names are not; if that does not
    decide, nothing is forced.
    """
    names = {symbol: name for name, symbol in signature.dims.items() if isinstance(symbol, Symbol)}
    squeezed = {guard.left for guard in guards if guard.relation is Relation.NE and guard.right == 1}
    forced: dict[str, int] = {}
    for info, value in outputs:
        tensor = info.type.tensor_type
        if not isinstance(value, Value) or not isinstance(value.type, TensorType):
            continue
        if not tensor.HasField("shape") or len(tensor.shape.dim) >= value.type.rank:
            continue
        kept = {dim.dim_param for dim in tensor.shape.dim}
        found = [
            names[dim]
            for dim in value.type.shape
            if isinstance(dim, Symbol) and dim in names and dim in squeezed and dim.name not in kept
        ]
        if len(found) == value.type.rank - len(tensor.shape.dim):
            forced |= dict.fromkeys(found, 1)
    return forced


def check_names(names: Sequence[str], what: str) -> None:
    """ModelError (code "model/graph") for a name that is empty or occurs twice."""
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ModelError(f"an {what} has no name", code="model/graph")
        if name in seen:
            raise ModelError(f"two {what}s are called '{printable(name)}'", code="model/graph")
        seen.add(name)


def declared_value(graph: Graph, value: Value, declared: TypeProto) -> Value:
    """`value` as what an output is declared: of an optional that is declared a sequence, the sequence.

    A loop whose state begins as an optional and goes on as a sequence ends with either.
    """
    element = value.type.element if isinstance(value.type, OptionalType) else None
    if not isinstance(element, SequenceType) or declared.WhichOneof("value") != "sequence_type":
        return value
    return GraphBuilder(graph).add(OptionalGetElement(element), value, names=[value.name])


def check_output(name: str, value: Value, declared: TypeProto) -> None:
    """ModelError when a model declares an output as another kind or element type than it is.

    A declared shape is a claim that nothing depends on: exporters leave wrong ones behind, so one that
    contradicts the inferred shape is logged as a warning, as onnxruntime does. Names of dims are no claims.
    """
    what = f"output '{printable(name)}'"
    kind = declared.WhichOneof("value")
    if kind is None:
        return
    if not isinstance(value.type, TensorType):
        if kinds(declared_type(declared, what)) != kinds(opened(value.type)):
            raise ModelError(f"{what} is declared as {kind}, but is {value.type}", code="model/type")
        return
    if kind != "tensor_type":
        raise ModelError(f"{what} is declared as {kind}, but is {value.type}", code="model/type")
    tensor = declared.tensor_type
    if tensor.elem_type and element_type(tensor.elem_type, what) is not value.type.dtype:
        raise ModelError(
            f"{what} is declared as {element_type(tensor.elem_type, what).text}, "
            f"but is {value.type.dtype.text}",
            code="model/type",
        )
    if not tensor.HasField("shape"):
        return
    dims = tensor.shape.dim
    fits = len(dims) == value.type.rank and all(
        not dim.HasField("dim_value") or not isinstance(actual, int) or dim.dim_value == actual
        for dim, actual in zip(dims, value.type.shape)
    )
    if not fits:
        shown = ", ".join(
            str(d.dim_value) if d.HasField("dim_value") else printable(d.dim_param) or "?" for d in dims
        )
        actual = ", ".join(to_text(dim) for dim in value.type.shape)
        logger.warning("%s is declared as [%s], but is [%s]; the latter holds", what, shown, actual)

"""Random inputs that a model accepts: dtypes, shapes, and ids within the tables that they index.

What a model does not say, the names and shapes suggest: masks are ones, trailing dims of images are 64
pixels. Values are deterministic: each input has a generator seeded with (seed, its name), so that adding an
input to a model does not change the values of the others.
"""

from __future__ import annotations

import ast
import itertools
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import InputError, ShapeError, UnsupportedError, printable
from dlc.ir.types import OpenTensorType, OptionalType, SequenceType, Type
from dlc.verify.compare import Array

if TYPE_CHECKING:
    import onnx

#: Values of an integer input that may be an id, a mask or a flag: valid as each of them.
_SAFE_INTEGERS = (0, 2)

#: How often loops run.
_ITERATIONS = (1, 5)

#: Operators that hand an integer tensor's elements on unchanged.
_TRANSPARENT = frozenset(
    "Cast Concat Expand Flatten Identity Reshape Slice Squeeze Transpose Unsqueeze".split()
)


@dataclass(frozen=True)
class InputSpec:
    """An input to make values for; a dim is an extent, the name of a symbol, or None.

    `bounds` is the half-open range of integers that the model accepts, where it is known. The others describe
    the tensors of a sequence where `wrapped` holds "sequence"; "optional" stands there for an optional.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    bounds: tuple[int, int] | None = None
    wrapped: tuple[str, ...] = ()


def model_inputs(model: onnx.ModelProto) -> list[InputSpec]:
    """The inputs of an ONNX model that have no initializer.

    Raises UnsupportedError for kinds other than tensors, and sequences and optionals of them.
    """
    from onnx import helper

    weights = {tensor.name for tensor in model.graph.initializer}
    bounds = index_bounds(model.graph)
    specs = []
    for info in model.graph.input:
        if info.name in weights:
            continue
        type_, wrapped = _unwrapped(info.type)
        if not type_.HasField("tensor_type"):
            raise UnsupportedError(f"input '{printable(info.name)}' is no tensor, sequence or optional")
        tensor = type_.tensor_type
        # Some exporters write -1 for an extent that they do not know.
        dims = tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value != -1 else dim.dim_param or None
            for dim in tensor.shape.dim
        )
        if wrapped and not tensor.HasField("shape"):
            dims = (None,)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        specs.append(InputSpec(info.name, dtype, dims, bounds.get(info.name), wrapped))
    return specs


def _unwrapped(type_: onnx.TypeProto) -> tuple[onnx.TypeProto, tuple[str, ...]]:
    """The type within sequences and optionals, and these from the outermost on."""
    wrapped: tuple[str, ...] = ()
    while (kind := type_.WhichOneof("value")) in ("sequence_type", "optional_type"):
        wrapped = (*wrapped, "sequence" if kind == "sequence_type" else "optional")
        type_ = getattr(type_, kind).elem_type
    return type_, wrapped


def of_type(name: str, type_: Type) -> InputSpec:
    """The input of a package that is a sequence or optional of `type_`."""
    wrapped: tuple[str, ...] = ()
    while isinstance(type_, SequenceType | OptionalType):
        wrapped = (*wrapped, "sequence" if isinstance(type_, SequenceType) else "optional")
        type_ = type_.element
    if not isinstance(type_, OpenTensorType):
        raise UnsupportedError(f"input '{printable(name)}' is no tensor, sequence or optional")
    shape = (None,) if type_.shape is None else type_.shape
    dims = tuple(dim if isinstance(dim, int) else None for dim in shape)
    return InputSpec(name, type_.dtype.numpy, dims, None, wrapped)


def index_bounds(graph: onnx.GraphProto) -> dict[str, tuple[int, int]]:
    """The range of the elements of some inputs: those that index an initializer through Gather take the rows
    that all their tables have, and trip counts of loops a few iterations. Without an iteration there would be
    little to compare, and engines disagree about the extents of a stack of nothing.
    """
    rows = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    inputs = {info.name for info in graph.input}
    sources: dict[str, set[str]] = {name: {name} for name in inputs}
    bounds: dict[str, tuple[int, int]] = {}
    for node in graph.node:
        reached = set().union(*(sources.get(name, set()) for name in node.input))
        if node.op_type in _TRANSPARENT and reached:
            sources.update(dict.fromkeys(node.output, reached))
        if node.op_type == "Gather" and rows.get(node.input[0]):
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            extent = rows[node.input[0]][axis]
            for name in sources.get(node.input[1], set()):
                bounds[name] = (0, min(extent, bounds.get(name, (0, extent))[1]))
        if node.op_type == "Loop":
            bounds |= dict.fromkeys(sources.get(node.input[0], ()), _ITERATIONS)
    return bounds


def random_inputs(
    specs: Sequence[InputSpec],
    seed: int = 0,
    bindings: Mapping[str, int | Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Values for `specs`; `bindings` gives extents to symbols and whole shapes to inputs.

    Sequences get two tensors, optionals a value.

    Symbols without a binding take the extent that `default_extent` suggests, the same wherever they occur.
    Raises InputError for a binding that names nothing, ShapeError for a shape of another rank.
    """
    given = dict(bindings or {})
    symbols = {dim for spec in specs for dim in spec.shape if isinstance(dim, str)}
    known = symbols | {spec.name for spec in specs}
    unknown = sorted(set(given) - known)
    if unknown:
        hint = "the model has: " + ", ".join(printable(name) for name in sorted(known))
        raise InputError(f"no dim or input is named '{printable(unknown[0])}'", hint=hint, code="input/name")
    extents = {name: int(value) for name, value in given.items() if isinstance(value, int | np.integer)}
    for spec in specs:
        _bind_whole_shape(spec, given.get(spec.name), extents)
    for spec in specs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim.isidentifier():
                extents.setdefault(dim, default_extent(spec, axis))
    values = {}
    for spec in specs:
        generator = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
        shape = _shape(spec, given.get(spec.name), extents)
        drawn = [draw(spec, shape, generator) for _ in range(1 + ("sequence" in spec.wrapped))]
        values[spec.name] = drawn if "sequence" in spec.wrapped else drawn[0]
    return values


def default_extent(spec: InputSpec, axis: int) -> int:
    """An extent for a dim that nothing fixes: 1 for the first (batch), 64 for an image's sides, else 16."""
    if axis == 0:
        return 1
    return 64 if len(spec.shape) >= 4 and spec.dtype.kind not in "iu" else 16


def draw(spec: InputSpec, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Values of one input: normal floats, ids within bounds, ones for masks."""
    name, dtype = spec.name.lower(), spec.dtype
    if dtype.kind in "OUT":
        return generator.choice(np.array(["alpha", "beta", "gamma"], dtype=object), shape)
    if dtype.kind == "b" or "mask" in name:
        return np.ones(shape, dtype)
    if dtype.kind == "c":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype)
    if spec.bounds is not None:
        return generator.integers(*spec.bounds, shape).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        bounds = (limits.min, limits.max + 1) if dtype.itemsize == 1 else _SAFE_INTEGERS
        return generator.integers(*bounds, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def load_inputs(path: str | Path, dtypes: Mapping[str, np.dtype[Any]] | None = None) -> dict[str, Any]:
    """The arrays of an .npz file (never unpickled); raises InputError if it cannot be read.

    Arrays named ``s[0]``, ``s[1]`` and so on are the sequence ``s``. `dtypes` are those of a model's inputs:
    NumPy's files do not say which of the types of ml_dtypes an array has.
    """
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise ValueError("a single array without a name; write it with numpy.savez(path, name=array)")
        with data:
            return gathered({name: _typed(data[name], (dtypes or {}).get(name)) for name in data})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        message = f"cannot read inputs from '{printable(str(path))}': {printable(str(error))}"
        raise InputError(message, code="input/file") from None


def _typed(array: Array, dtype: np.dtype[Any] | None) -> Array:
    """Elements of unknown type as what a model takes, if that is a type of ml_dtypes."""
    unknown = array.dtype.kind == "V" and array.dtype.names is None
    if not unknown or dtype is None or dtype.isbuiltin != 2 or dtype.itemsize != array.dtype.itemsize:
        return array
    return array.view(dtype)


def gathered(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """`arrays` with those named ``s[0]``, ``s[1]`` and so on as one list called ``s``."""
    values: dict[str, Any] = {}
    for name, array in arrays.items():
        found = re.fullmatch(r"(.*)\[(0|[1-9]\d{0,6})\]", name, re.DOTALL)
        if found is None or f"{found[1]}[0]" not in arrays:
            values[name] = array
        elif found[2] == "0":
            names = (f"{found[1]}[{index}]" for index in itertools.count())
            values[found[1]] = [arrays[each] for each in itertools.takewhile(arrays.__contains__, names)]
    return values


def _bind_whole_shape(spec: InputSpec, given: int | Sequence[int] | None, extents: dict[str, int]) -> None:
    """Enter into `extents` the symbols that a shape given for the whole input fixes."""
    if given is None or isinstance(given, int | np.integer):
        return
    if len(given) != len(spec.shape):
        raise ShapeError(f"'{printable(spec.name)}' has {len(spec.shape)} dims, {len(given)} were given")
    for axis, (dim, extent) in enumerate(zip(spec.shape, given)):
        if isinstance(dim, int) and dim != extent:
            raise ShapeError(f"dim {axis} of '{printable(spec.name)}' is {dim}, not {extent}")
        if isinstance(dim, str) and extents.setdefault(dim, int(extent)) != extent:
            raise ShapeError(f"'{printable(dim)}' would be both {extents[dim]} and {extent}")


def _shape(spec: InputSpec, given: int | Sequence[int] | None, extents: Mapping[str, int]) -> tuple[int, ...]:
    """The concrete shape of one input."""
    if given is not None and not isinstance(given, int | np.integer):
        return tuple(int(extent) for extent in given)
    shape = []
    for axis, dim in enumerate(spec.shape):
        known = evaluate_dim(dim, extents) if isinstance(dim, str) else dim
        shape.append(default_extent(spec, axis) if known is None else known)
    return tuple(shape)


def evaluate_dim(text: str, extents: Mapping[str, int]) -> int | None:
    """The extent of a symbol or of an expression such as "past + 1", as exporters write; None if unknown."""
    if text in extents:
        return extents[text]
    if len(text) > 200:
        return None
    try:
        value = _evaluate(ast.parse(text, mode="eval").body, extents)
    except (SyntaxError, ValueError, RecursionError, MemoryError, KeyError, ZeroDivisionError):
        return None
    return value if 0 <= value < 1 << 40 else None


def _evaluate(node: ast.expr, extents: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return extents[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left, extents) + _evaluate(right, extents)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _evaluate(left, extents) - _evaluate(right, extents)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _evaluate(left, extents) * _evaluate(right, extents)
        case ast.BinOp(left=left, op=ast.Div() | ast.FloorDiv(), right=right):
            return _evaluate(left, extents) // _evaluate(right, extents)
    raise ValueError("not an expression over symbols")

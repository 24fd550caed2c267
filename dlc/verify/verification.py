"""Compile a model, run it next to another engine, and judge the difference."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from dlc.errors import ExternalDataError, InputError, UnsupportedError, printable
from dlc.limits import Limits
from dlc.options import Options, ShapeSpec
from dlc.passes.pipeline import PRECISIONS
from dlc.verify.compare import Array, Value, compare_values, distance
from dlc.verify.drawing import drawing_nodes
from dlc.verify.engines import Engine, Float64, OnnxRuntime, Reference, Values
from dlc.verify.inputs import load_inputs, model_inputs, random_inputs
from dlc.verify.result import OutputResult, Verification
from dlc.verify.tolerances import Tolerance, Work, is_float, tolerance

if TYPE_CHECKING:
    import onnx

    import dlc

#: A model as `dlc.compile` takes it, or a package.
Source: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"
#: A compiled model: inputs by name to outputs by name.
Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]

_QUANTIZED = frozenset(
    "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger MatMulNBits QLinearConv "
    "QLinearMatMul QuantizeLinear".split()
)


def verify(
    source: Source | dlc.CompiledModel,
    *,
    model: Runner | None = None,
    against: str | os.PathLike[str] | Mapping[str, Array] = "onnxruntime",
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    seed: int = 0,
    shapes: Mapping[str, ShapeSpec] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    float64: bool = True,
    threads: int | None = None,
    bisect: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Verification:
    """Compile `source` and compare its outputs with another engine's, with float64 as the judge.

    source    an ONNX file, its bytes or a ModelProto; or a package or compiled model, whose self-test is
              repeated, or which is compared with stored outputs if both `inputs` and `against` are stored
    model     something else to judge than `dlc.compile(source)`: a callable from named inputs to named
    outputs
    against   "onnxruntime" (where it cannot run the model: the reference), "reference" (the evaluator that
    comes
              with ONNX), or stored outputs: an .npz file or a mapping
    inputs    arrays by name or an .npz file; random ones of `seed` if absent
    shapes    extents of symbols or inputs for random inputs, as in `dlc.compile`
    rtol, atol  an own elementwise bound, |a - b| <= atol + rtol * |b|, instead of the table in tolerances.py
    float64   also run the model in float64, which takes the NumPy evaluator's time
    bisect    also compare each two neighbouring steps of the compilation of `source` with `options`, and name
              the first that go apart (see `dlc.verify.bisect`); `progress` is called with what is compared
    options   for `dlc.compile`

    Raises what `dlc.compile` raises, and UnsupportedError when the other engine cannot run the model.
    """
    if is_compiled(source):
        from dlc.verify.replay import verify_package

        return verify_package(source, against, inputs, threads)
    proto = load_model(source)
    name = model_label(Path(source)) if isinstance(source, str | os.PathLike) else printable(proto.graph.name)
    values = input_values(proto, inputs, seed, shapes)
    notes: list[str] = []
    if drawing := drawing_nodes(proto):
        # Float64 would draw other numbers, too: no judge of those that dlc draws.
        notes.append(f"engines draw different random numbers: {', '.join(drawing)}")
        float64 = False
    other_name, expected = _expected(proto, against, values, threads, notes)
    exact_name, exact = _exact(proto, values, notes) if float64 else (None, None)
    if model is None:
        import dlc

        model = runner(dlc.compile(source, shapes=shapes, threads=threads, **options))
    actual = dict(model(values))
    missing = sorted(set(expected) - set(actual))
    if missing:
        raise InputError(f"the compiled model has no output '{printable(missing[0])}'", code="input/name")
    work, widest = work_of(proto), rounded_to(widest_input(proto), options.get("precision", "model"))
    own = None if rtol is None and atol is None else Tolerance(rtol or 0.0, atol or 0.0, 0.0, absolute=True)
    results = [
        result
        for output, reference in expected.items()
        for result in judge(output, actual[output], reference, (exact or {}).get(output), work, own, widest)
    ]
    verification = Verification(name, other_name, exact_name, tuple(results), tuple(notes))
    if not bisect:
        return verification
    from dlc.verify.bisect import bisect as find

    chosen = Options(shapes=shapes or {}, threads=threads, **options)
    wrong = None if verification.agrees else expected
    bisection = find(source, values, options=chosen, expected=wrong, exact=exact, progress=progress)
    return replace(verification, bisection=bisection)


def is_compiled(source: object) -> TypeGuard[str | os.PathLike[str] | bytes | dlc.CompiledModel]:
    """Whether `source` is a package, by its name or its first bytes, or a compiled model."""
    from dlc.api.model import CompiledModel

    if isinstance(source, bytes):
        return source.startswith(b"PK\x03\x04")
    if isinstance(source, str | os.PathLike):
        return os.fspath(source).endswith(".dlc")
    return isinstance(source, CompiledModel)


def judge(
    name: str,
    actual: Value,
    expected: Value,
    exact: Value,
    work: Work,
    own: Tolerance | None = None,
    widest: np.dtype[Any] | None = None,
) -> list[OutputResult]:
    """Compare one output (several tensors if it is a sequence) by the table, or by `own` tolerance.

    `widest` is the model's precision: a wider output counts as rounded to it.
    """
    dtype = expected.dtype if isinstance(expected, np.ndarray) else np.dtype(np.float32)
    if widest is not None and dtype.kind == "f" and dtype.itemsize > widest.itemsize:
        dtype = widest
    results = []
    for difference in compare_values(name, actual, expected, own or tolerance(dtype, work)):
        ours = theirs = None
        if isinstance(exact, np.ndarray) and isinstance(actual, np.ndarray) and exact.dtype.kind == "f":
            ours = distance(actual, exact)
            theirs = distance(expected, exact) if isinstance(expected, np.ndarray) else None
        results.append(OutputResult(difference, ours, theirs))
    return results


def load_model(source: Source) -> onnx.ModelProto:
    """The ModelProto with its external data loaded, which must lie beside the model.

    Raises what the frontend's reader raises: InputError (code "input/file") for what cannot be read,
    ModelError for what is no ONNX model; and ExternalDataError.
    """
    from onnx.checker import ValidationError
    from onnx.external_data_helper import load_external_data_for_model

    from dlc.frontend.onnx.reader import read_model

    model = read_model(source, Limits())
    if model.folder is not None:
        try:
            load_external_data_for_model(model.proto, str(model.folder))
        except (OSError, ValueError, ValidationError) as error:
            raise ExternalDataError(printable(str(error))) from None
    return model.proto


def input_values(
    proto: onnx.ModelProto,
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None,
    seed: int,
    shapes: Mapping[str, ShapeSpec] | None,
) -> dict[str, Any]:
    """The values to run a model on: arrays by name, those of an .npz file, or random ones."""
    if inputs is not None and not isinstance(inputs, str | os.PathLike):
        return dict(inputs)
    specs = model_inputs(proto)
    if inputs is not None:
        return load_inputs(os.fspath(inputs), {spec.name: spec.dtype for spec in specs})
    return random_inputs(specs, seed, typical_extents(shapes or {}, {spec.name for spec in specs}))


def typical_extents(shapes: Mapping[str, ShapeSpec], input_names: set[str]) -> dict[str, int | Sequence[int]]:
    """Bindings for random inputs out of the option `shapes`: of (min, typical, max) the typical extent."""
    bindings: dict[str, int | Sequence[int]] = {}
    for name, spec in shapes.items():
        if isinstance(spec, int):
            bindings[name] = spec
            continue
        extents = [extent for extent in spec if isinstance(extent, int)]
        if name not in input_names and len(extents) == 3:
            bindings[name] = extents[1]
        elif name in input_names and len(extents) == len(spec):
            bindings[name] = extents
    return bindings


def _expected(
    proto: onnx.ModelProto,
    against: str | os.PathLike[str] | Mapping[str, Array],
    values: Values,
    threads: int | None,
    notes: list[str],
) -> tuple[str, dict[str, Value]]:
    """The other engine's name and outputs."""
    if isinstance(against, Mapping):
        return "stored outputs", dict(against)
    engine: Engine
    match os.fspath(against):
        case "onnxruntime":
            try:
                engine = OnnxRuntime(proto, threads)
                return engine.name, engine.run(values)
            except UnsupportedError as error:
                notes.append(f"{error.message}; compared with the reference instead")
                return _reference_after(error, proto, values)
        case "reference":
            engine = Reference(proto)
        case path if path.endswith(".npz"):
            return f"outputs of {printable(Path(path).name)}", dict(load_inputs(path))
        case other:
            raise InputError(
                f"cannot compare with '{printable(other)}'",
                hint="use onnxruntime, reference or an .npz file of outputs",
                code="input/option",
            )
    return engine.name, engine.run(values)


def _reference_after(
    error: UnsupportedError, proto: onnx.ModelProto, values: Values
) -> tuple[str, dict[str, Value]]:
    """The reference's outputs where onnxruntime failed with `error`; both causes if it fails, too."""
    try:
        engine = Reference(proto)
        return engine.name, engine.run(values)
    except UnsupportedError as second:
        hint = "give inputs that the model accepts, or the extents of its dims"
        raise UnsupportedError(f"{error.message}; {second.message}", hint=hint) from None


def _exact(
    proto: onnx.ModelProto, values: Values, notes: list[str]
) -> tuple[str | None, dict[str, Value] | None]:
    try:
        engine = Float64(proto)
        return engine.name, engine.run(values)
    except UnsupportedError as error:
        notes.append(f"no distance to float64: {error.message}")
        return None, None


def model_label(path: Path) -> str:
    """What a model file is called in results: its name, with its folder's where that alone says nothing."""
    path = path.absolute()
    return printable(f"{path.parent.name}/{path.name}" if path.stem == "model" else path.name)


def runner(compiled: dlc.CompiledModel) -> Runner:
    """A compiled model as a function from named inputs to named outputs."""

    def run(values: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = compiled(dict(values))
        return {spec.name: outputs[index] for index, spec in enumerate(compiled.outputs)}

    return run


def widest_input(proto: onnx.ModelProto) -> np.dtype[Any] | None:
    """The widest floating-point dtype among a model's inputs: what it computes in, as far as its interface
    tells. A model may widen its results at the end. None without floating-point inputs.
    """
    from onnx import helper

    weights = {tensor.name for tensor in proto.graph.initializer}
    tensors = [
        info.type
        for info in proto.graph.input
        if info.name not in weights and info.type.HasField("tensor_type")
    ]
    dtypes = [np.dtype(helper.tensor_dtype_to_np_dtype(type_.tensor_type.elem_type)) for type_ in tensors]
    return max((dtype for dtype in dtypes if is_float(dtype)), key=lambda dtype: dtype.itemsize, default=None)


def rounded_to(widest: np.dtype[Any] | None, precision: str) -> np.dtype[Any] | None:
    """The precision of a model whose own is `widest`, compiled with the option `precision`."""
    converts = precision in PRECISIONS and (widest is None or widest == np.float32)
    return PRECISIONS[precision].numpy if converts else widest


def work_of(proto: onnx.ModelProto | None) -> Work:
    """The row of the table of tolerances for a whole model; without its ONNX form, that of a plain model."""
    quantized = proto is not None and any(node.op_type in _QUANTIZED for node in proto.graph.node)
    return Work.QUANTIZED_MODEL if quantized else Work.MODEL

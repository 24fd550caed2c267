"""Which operators run natively, for which element types: found by lowering graphs of one node.

The graphs are those of ONNX's own backend tests, retyped to each element type that the operator's schema
allows, and those of `dlc.verify.samples`. What the tests pass as data but is a shape or an option in practice
becomes a constant where the operator cannot be imported without. A graph whose attributes or other operands
do not go with a type, as strict inference by the onnx package tells, says nothing of it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import Error
from dlc.verify.samples import OPSETS, Sample, samples

if TYPE_CHECKING:
    import onnx

#: Element types by ONNX's names, in the order of the table.
DTYPES: Mapping[str, str] = {
    "float": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "double": "f64",
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "uint64": "u64",
    "bool": "bool",
}
#: Those that few operators take.
FURTHER_DTYPES: Mapping[str, str] = {
    "float8e4m3fn": "f8e4m3fn",
    "float8e4m3fnuz": "f8e4m3fnuz",
    "float8e5m2": "f8e5m2",
    "float8e5m2fnuz": "f8e5m2fnuz",
    "float8e8m0": "f8e8m0",
    "float4e2m1": "f4e2m1",
    "int4": "i4",
    "uint4": "u4",
    "int2": "i2",
    "uint2": "u2",
    "complex64": "c64",
    "complex128": "c128",
    "string": "string",
}
#: Backend tests that are tried of an operator, evenly chosen.
CASES = 2


class Support(Enum):
    """How an operator runs for one element type, in the graphs that were tried."""

    NATIVE = "native"
    PARTLY = "partly native"
    HOST = "host"
    NONE = "not compiled"


@dataclass(frozen=True)
class OperatorSupport:
    """An operator: the opsets at which its import changed, and its support by element type.

    `by_dtype` is empty where no graph of one node is at hand. `reasons` says why a type is not native.
    """

    domain: str
    name: str
    since: tuple[int, ...]
    by_dtype: Mapping[str, Support]
    reasons: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON-compatible data."""
        return {
            "domain": self.domain,
            "name": self.name,
            "since": list(self.since),
            "dtypes": {dtype: support.value for dtype, support in self.by_dtype.items()},
            "reasons": dict(self.reasons),
        }


def operator_support(
    names: Collection[str] | None = None, progress: Callable[[str], None] | None = None
) -> list[OperatorSupport]:
    """The support of all operators that dlc imports, or of those in `names`; `progress` hears each name."""
    from dlc.frontend.onnx.registry import operators

    entries = []
    for (domain, name), since in operators().items():
        if names is not None and name not in names:
            continue
        if progress is not None:
            progress(name)
        by_dtype: dict[str, Support] = {}
        reasons: dict[str, str] = {}
        for dtype, outcomes in _tried(domain, name):
            by_dtype[dtype], reason = _summary(outcomes)
            if reason:
                reasons[dtype] = reason
        entries.append(OperatorSupport(domain, name, tuple(since), by_dtype, reasons))
    return entries


@dataclass(frozen=True)
class _Outcome:
    """What became of one graph."""

    support: Support
    reason: str = ""


def _summary(outcomes: Sequence[_Outcome]) -> tuple[Support, str]:
    """The support in all graphs together, and the first reason for anything less than native."""
    found = {outcome.support for outcome in outcomes}
    reason = next((outcome.reason for outcome in outcomes if outcome.reason), "")
    if len(found) == 1:
        return found.pop(), reason
    return Support.PARTLY if Support.NATIVE in found else Support.HOST, reason


def _tried(domain: str, name: str) -> Iterator[tuple[str, list[_Outcome]]]:
    """For each element type, what became of the graphs."""
    cases = _cases().get((domain, name), [])
    chosen = [cases[len(cases) * i // CASES] for i in range(min(CASES, len(cases)))]
    written = samples().get((domain, name), ())
    for onnx_name, dtype in (*DTYPES.items(), *FURTHER_DTYPES.items()):
        outcomes = [_sampled(sample, onnx_name) for sample in written]
        if not any(onnx_name in sample.dtypes.split() for sample in written):
            outcomes += [_attempt(case, onnx_name) for case in chosen]
        present = [outcome for outcome in outcomes if outcome is not None]
        if present:
            yield dtype, present


def _sampled(sample: Sample, onnx_name: str) -> _Outcome | None:
    """Compile a sample for an element type; None where it is not for it."""
    if sample.dtypes:
        allowed: Collection[str] = sample.dtypes.split()
    else:
        allowed = _first_formal(sample.name, OPSETS[sample.domain], sample.domain)[1]
    return _compiled(sample.model(onnx_name)) if onnx_name in allowed else None


@functools.cache
def _cases() -> dict[tuple[str, str], list[Any]]:
    """The backend tests whose model is one node, by domain and operator."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[tuple[str, str], list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        nodes = [] if case.model is None else case.model.graph.node
        if len(nodes) == 1:
            found.setdefault((nodes[0].domain, nodes[0].op_type), []).append(case)
    return found


def _attempt(case: Any, onnx_name: str) -> _Outcome | None:
    """Compile a case with its first type parameter as `onnx_name`; None where the schema forbids that."""
    retyped = _retyped(case.model, onnx_name)
    if retyped is None:
        return None
    model, varied = retyped
    names = [info.name for info in model.graph.input]
    # First everything stays data; then what is of another type; then all but the first operand.
    attempts: tuple[list[str], ...] = ([], [name for name in names if name not in varied], names[1:])
    outcome = _Outcome(Support.NONE)
    for constants in attempts:
        outcome = _compiled(_with_constants(model, constants, case.data_sets[0][0]))
        if outcome.support is not Support.NONE:
            break
    return outcome


def _compiled(model: onnx.ModelProto) -> _Outcome:
    from dlc.frontend.onnx.importer import import_model
    from dlc.lowering.lower import lower
    from dlc.lowering.program import Host, walk

    try:
        program = lower(import_model(model).graph)
    except Error as error:
        findings = getattr(error, "findings", ())
        return _Outcome(Support.NONE, findings[0].reason if findings else error.message)
    hosts = [step for step in walk(program.steps) if isinstance(step, Host)]
    return _Outcome(Support.HOST, hosts[0].reason) if hosts else _Outcome(Support.NATIVE)


def _retyped(model: onnx.ModelProto, onnx_name: str) -> tuple[onnx.ModelProto, set[str]] | None:
    """A copy whose operands of the first operand's type have another, and their names.

    Its results have no types, so that they follow. None where the operator's schema does not allow that type,
    or something else in the model does not go with it.
    """
    import onnx

    node = model.graph.node[0]
    opset = max(item.version for item in model.opset_import if item.domain == node.domain)
    formal, allowed = _first_formal(node.op_type, opset, node.domain)
    if onnx_name not in allowed:
        return None
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    varied = _named(node.input, schema.inputs, formal)
    element = onnx.TensorProto.DataType.Value(onnx_name.upper())
    for info in copy.graph.input:
        if info.name in varied and info.type.HasField("tensor_type"):
            info.type.tensor_type.elem_type = element
    for info in copy.graph.output:
        info.ClearField("type")
    if _inferred(model) is None:  # what onnx cannot tell of the test itself it cannot tell of the copy
        return copy, varied
    inferred = _inferred(copy)
    if inferred is None:
        return None
    types = [info.type for info in (*inferred.graph.input, *inferred.graph.output)]
    return (copy, varied) if any(element in _element_types(type_) for type_ in types) else None


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with the types that follow from its inputs; None where something contradicts them."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return None


def _element_types(type_: onnx.TypeProto) -> set[int]:
    """The element types of the tensors in a value."""
    match type_.WhichOneof("value"):
        case "tensor_type":
            return {type_.tensor_type.elem_type}
        case "sequence_type":
            return _element_types(type_.sequence_type.elem_type)
        case "optional_type":
            return _element_types(type_.optional_type.elem_type)
    return set()


def _first_formal(op_type: str, opset: int, domain: str) -> tuple[str, set[str]]:
    """The type parameter of the first operand, or of the first result where there is none.

    With the element types that the operator's schema allows, of tensors and sequences, by ONNX's names.
    """
    import onnx

    schema = onnx.defs.get_schema(op_type, opset, domain)
    formal = [*schema.inputs, *schema.outputs][0].type_str
    for constraint in schema.type_constraints:
        if constraint.type_param_str == formal:
            allowed = constraint.allowed_type_strs
            break
    else:
        allowed = [formal]
    return formal, {text.rpartition("tensor(")[2].rstrip(")") for text in allowed if "tensor(" in text}


def _named(names: Sequence[str], formals: Sequence[Any], type_str: str) -> set[str]:
    """The actual names of the formal parameters of that type; the last formal may be variadic."""
    return {
        name
        for index, name in enumerate(names)
        if formals and formals[min(index, len(formals) - 1)].type_str == type_str
    }


def _with_constants(model: onnx.ModelProto, names: Collection[str], data: Sequence[Any]) -> onnx.ModelProto:
    """A copy in which the inputs `names` are initializers with the test's data."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.input[:]
    for info, content in zip(model.graph.input, data):
        if info.name not in names or not info.type.HasField("tensor_type"):
            copy.graph.input.append(info)
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        is_proto = isinstance(content, onnx.TensorProto)
        array = onnx.numpy_helper.to_array(content) if is_proto else np.asarray(content)
        array = array.astype(str).astype(object) if dtype.kind == "O" else array.astype(dtype)
        copy.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    return copy

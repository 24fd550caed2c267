"""The ONNX backend suite of the installed onnx wheel, and how one of its cases is run by dlc."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

import dlc
from dlc.api.report import HostReport

#: Cases whose stored outputs were drawn with NumPy's generator, which the standard does not ask for.
DRAWN = re.compile("test_bernoulli|test_training_dropout(?!_zero_ratio)")

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
#: Images are decoded only where that is allowed.
ALLOWED = dlc.Limits(decoded_pixels=1 << 20)


@functools.cache
def cases() -> dict[str, TestCase]:
    """All cases by name."""
    return {case.name: case for kind in KINDS for case in load_model_tests(kind=kind)}


def model_of(case: TestCase) -> onnx.ModelProto:
    """The model of a case."""
    return case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")


def run(case: TestCase) -> list[HostReport]:
    """Compile and run a case and compare its outputs; returns the nodes that did not run in generated code.

    A model whose axes or scales are inputs, which dlc wants to know when it compiles, is compiled again for
    each data set with its small integer and scale operands as constants. Raises AssertionError where an
    output differs beyond the case's own tolerance, dlc.Error where dlc refuses it. Outputs drawn at random
    need only agree where both engines drew something else than 0.
    """
    model = model_of(case)
    sets = _data_sets(case, model)
    try:
        return _run(case, model, sets)
    except dlc.UnsupportedError as error:
        if "computed at run time" not in str(error):
            raise
    runs = [_run(case, _with_constants(model, given), [(given, wanted)]) for given, wanted in sets]
    return [host for hosts in runs for host in hosts]


def _with_constants(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The model with its operands of rank 0 and 1 and at most 16 elements, but the first, as initializers."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value, array in list(zip(model.graph.input, inputs, strict=False))[1:]:
        if isinstance(array, np.ndarray) and array.ndim < 2 and array.size <= 16:
            fixed.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return fixed


def _run(
    case: TestCase, model: onnx.ModelProto, sets: list[tuple[list[Any], list[Any]]]
) -> list[HostReport]:
    compiled = dlc.compile(model, threads=1, cache=False, limits=ALLOWED)
    for inputs, expected in sets:
        names = [spec.name for spec in compiled.inputs]
        given = [value.name for value in model.graph.input][: len(inputs)]
        feeds = {name: array for name, array in zip(given, inputs, strict=False) if name in names}
        for output, wanted in zip(compiled(feeds), expected, strict=True):
            drawn = bool(DRAWN.match(case.name))
            _compare(output, wanted, case.rtol, case.atol, drawn)
    hosts = list(compiled.report().hosts)
    compiled.close()
    return hosts


def _data_sets(case: TestCase, model: onnx.ModelProto) -> list[tuple[list[Any], list[Any]]]:
    if case.data_sets is not None:
        return [(list(map(_array, given)), list(map(_array, wanted))) for given, wanted in case.data_sets]
    found = []
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        graph = model.graph
        found.append((_files(folder, "input", graph.input), _files(folder, "output", graph.output)))
    return found


def _files(folder: Path, what: str, infos: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    paths = [folder / f"{what}_{index}.pb" for index in range(len(list(folder.glob(f"{what}_*.pb"))))]
    return [_load(path, info.type) for path, info in zip(paths, infos)]


def _load(path: Path, type_: onnx.TypeProto) -> Any:
    """The value in a file: a tensor, a sequence or an optional, as its declared type says."""
    kind = type_.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list):
        return [_array(element) for element in value]
    return value if isinstance(value, dict) or value is None else np.asarray(value)


def _compare(output: Any, wanted: Any, rtol: float, atol: float, drawn: bool) -> None:
    if isinstance(wanted, list):
        assert isinstance(output, list) and len(output) == len(wanted)
        for part, wanted_part in zip(output, wanted):
            _compare(part, wanted_part, rtol, atol, drawn)
        return
    if wanted is None:
        assert output is None
        return
    assert output.shape == wanted.shape, f"shape {output.shape}, not {wanted.shape}"
    if wanted.dtype.kind in "OSU":
        assert output.dtype == object and output.tolist() == wanted.tolist()
        return
    assert output.dtype == wanted.dtype, f"dtype {output.dtype}, not {wanted.dtype}"
    left, right = np.asarray(output), np.asarray(wanted)
    if left.dtype.kind not in "biufc":
        left, right = left.astype(np.float32), right.astype(np.float32)
    if drawn:
        both = (left != 0) & (right != 0)
        left, right = left[both], right[both]
    np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)

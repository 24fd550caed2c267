"""Quantized models cut at their roundings.

Two engines that are both right round a few numbers near a tie to different sides. In a deep network each of
these moves many others, until outputs are as far from each other as from the model without quantization.
So the stages between roundings are compared one by one, each on what onnxruntime had stored before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

import dlc
from dlc.verify.compare import compare_values
from dlc.verify.tolerances import Work, tolerance
from dlc.verify.verification import runner

#: What stands behind the name of a tensor that a stage is given.
_GIVEN = "/given"

#: The least share of numbers that must be within a step.
_NEARLY_ALL = 0.9999


@dataclasses.dataclass(frozen=True)
class Stages:
    """Of all stored numbers of all stages the shares that are equal, and at most one step apart; and whether
    the outputs are within the tolerance when the last stages, too, are given what onnxruntime had stored.
    """

    equal: float
    within_a_step: float
    outputs_agree: bool

    @property
    def agree(self) -> bool:
        """Whether nearly all numbers are at most a step apart."""
        return self.outputs_agree and self.within_a_step >= _NEARLY_ALL


def roundings(model: onnx.ModelProto) -> list[str]:
    """The tensors that nodes quantize to, and the scales and zero points that they choose on the way."""
    return [
        name
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear", "QGemm")
        or node.op_type.startswith("QLinear")
        for name in node.output
    ]


def compare_stages(model: onnx.ModelProto, values: Mapping[str, Any]) -> Stages | None:
    """dlc beside onnxruntime in each stage of `model` on `values`; None where it rounds to no integers."""
    names = roundings(model)
    outputs = [info.name for info in model.graph.output if info.name not in names]
    expected = _computed(model, [*names, *outputs], values)
    stored = {name: expected[name] for name in names}
    integers = [name for name, array in stored.items() if array.dtype.kind in "iu" and array.ndim]
    if not integers:
        return None
    given = {name + _GIVEN: array for name, array in stored.items()}
    found = runner(dlc.compile(_cut(model, stored), cache=False))({**values, **given})
    steps = np.concatenate([_distance(found[name], stored[name]) for name in integers])
    results = [
        difference
        for name in outputs
        for difference in compare_values(
            name, found[name], expected[name], tolerance(expected[name].dtype, Work.MODEL)
        )
    ]
    agree = all(difference.agrees for difference in results)
    return Stages(float((steps == 0).mean()), float((steps <= 1).mean()), agree)


def _distance(actual: Any, expected: Any) -> np.ndarray[Any, Any]:
    """How many steps apart the elements are."""
    steps: np.ndarray[Any, Any] = np.abs(actual.astype(np.int32) - expected.astype(np.int32)).reshape(-1)
    return steps


def _computed(model: onnx.ModelProto, names: list[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors `names` as onnxruntime computes them on `values`."""
    import onnxruntime

    whole = _copy(model)
    kept = {info.name for info in whole.graph.output}
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in kept)
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, dict(values)), strict=True))


def _cut(model: onnx.ModelProto, stored: Mapping[str, Any]) -> onnx.ModelProto:
    """`model` in which those who read a tensor of `stored` read an input in its place; the tensors are
    outputs, too.
    """
    cut = _copy(model)
    for node in cut.graph.node:
        for index, name in enumerate(node.input):
            if name in stored:
                node.input[index] = name + _GIVEN
    outputs = {info.name for info in cut.graph.output}
    for name, array in stored.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        cut.graph.input.append(onnx.helper.make_tensor_value_info(name + _GIVEN, element, array.shape))
        if name not in outputs:
            cut.graph.output.append(onnx.ValueInfoProto(name=name))
    return cut


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied

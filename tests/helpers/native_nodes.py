"""One-node ONNX models through the whole compiler, without a step on the host, against the judges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dlc
from tests.helpers.onnx_cases import Array, assert_agrees, check_node, feeds_of, one_node_model


def run_native(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of generated code; dlc.UnsupportedError if any node would run on the host."""
    with dlc.compile(model, strict=True, threads=1, cache=False) as compiled:
        return list(compiled(dict(feeds)))


def check_native_node(
    op_type: str,
    inputs: Sequence[Array | None],
    outputs: int | Sequence[str] = 1,
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    *,
    domain: str = "",
    constants: Collection[int] = (),
    symbolic: bool = False,
    reference: bool = True,
    onnxruntime: bool = True,
    tolerance: tuple[float, float] | None = None,
) -> list[Array]:
    """As `check_node`, and generated code agrees with the evaluator too; returns the evaluator's outputs."""
    evaluated = check_node(
        op_type,
        inputs,
        outputs,
        attributes,
        opset,
        domain=domain,
        constants=constants,
        symbolic=symbolic,
        reference=reference,
        onnxruntime=onnxruntime,
        tolerance=tolerance,
    )
    model = one_node_model(
        op_type, inputs, outputs, attributes, opset, domain=domain, constants=constants, symbolic=symbolic
    )
    assert_agrees(run_native(model, feeds_of(model, inputs)), evaluated, tolerance)
    return evaluated

"""Nodes beyond the standard's domain: the evaluator and the native code, judged by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx

import dlc
from dlc.frontend.onnx.extension import MICROSOFT
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, is_float, tolerance
from tests.helpers.onnx_cases import Array, feeds_of, one_node_model, run_evaluator, run_onnxruntime

#: A function of the results of a model.
Specified: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]

#: The share of quantized elements that may be a step off, where an engine rounds a product another way.
STEPS_SHARE = 0.03


def check_contrib(
    op_type: str,
    inputs: Sequence[Array | None],
    work: Work,
    outputs: int | Sequence[str] = 1,
    attributes: Mapping[str, Any] | None = None,
    *,
    domain: str = MICROSOFT,
    opset: int = 21,
    version: int = 1,
    constants: Collection[int] = (),
    symbolic: bool = False,
    steps: int = 0,
    expected: Sequence[Array] | None = None,
    native: bool = True,
    specified: Specified = list,
) -> list[Array]:
    """Compare the evaluator and the compiled model with onnxruntime, or with `expected` where it has no
    kernel; returns what the evaluator gives.

    With `steps`, integers may differ by so many, in few elements. No node may run on the host; with
    `native` False only the evaluator is checked. `specified` takes out of the results what is specified.
    """
    model = one_node_model(
        op_type, inputs, outputs, attributes, opset, domain=domain, constants=constants, symbolic=symbolic
    )
    for entry in model.opset_import:
        if entry.domain == domain and domain:
            entry.version = version
    return check_model(
        model,
        feeds_of(model, inputs),
        work,
        steps=steps,
        expected=expected,
        native=native,
        specified=specified,
    )


def check_model(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    work: Work,
    *,
    steps: int = 0,
    expected: Sequence[Array] | None = None,
    native: bool = True,
    specified: Specified = list,
) -> list[Array]:
    """As `check_contrib`, for any model."""
    if expected is None:
        expected = run_onnxruntime(model, feeds)
        assert expected is not None, "onnxruntime has no kernel for the node"
    evaluated = run_evaluator(model, feeds)
    compiled = [("native", run_native(model, feeds))] if native else []
    for what, actual in (("evaluated", evaluated), *compiled):
        assert len(actual) == len(expected)
        for index, (got, want) in enumerate(zip(specified(actual), specified(expected))):
            assert_close(f"{what} result {index}", got, np.asarray(want), work, steps)
    return evaluated


def run_native(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the compiled model, none of whose nodes may run on the host."""
    with dlc.compile(model, strict=True, cache=False) as compiled:
        return [np.array(output) for output in compiled.run(None, feeds)]


def assert_close(what: str, got: Array, want: Array, work: Work, steps: int) -> None:
    """`got` agrees with `want` by the table of tolerances, integers up to `steps` in few elements."""
    if steps and not is_float(want.dtype):
        assert got.dtype == want.dtype and got.shape == want.shape, what
        apart = np.abs(got.astype(np.int64) - want.astype(np.int64))
        assert apart.max(initial=0) <= steps, f"{what}: {apart.max()} steps apart"
        assert np.count_nonzero(apart) <= max(1, STEPS_SHARE * apart.size), f"{what}: {np.mean(apart > 0)}"
        return
    found = compare_arrays(what, got, want, tolerance(want.dtype, work))
    assert found.agrees, str(found)

"""dlc under onnx's own interface for backends, with a part of onnx's own tests."""

from __future__ import annotations

import unittest
from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

import dlc
from tests.api.small_models import AFFINE, affine_inputs, affine_outputs

#: Tests of onnx's suite, one or two a family; tests/conformance runs all of them.
SUBSET = (
    "abs|add_bcast|and4d|argmax_keepdims_random|averagepool_2d_pads|batchnorm_example|cast_FLOAT_to_DOUBLE|"
    "clip_example|concat_3d_axis_1|conv_with_strides_padding|gather_0|gemm_all_attributes|lstm_defaults|"
    "layer_normalization_2d_axis1|matmul_3d|maxpool_2d_default|pow_bcast_array|relu|sqrt_example|"
    "reduce_sum_default_axes_keepdims_random|reshape_reordered_all_dims|softmax_axis_1|top_k|"
    "transpose_all_permutations_3|where_example"
)


def test_part_of_the_suite() -> None:
    backend_test = onnx.backend.test.BackendTest(dlc.backend.DlcBackend, __name__)
    names = [f"test_{name}_cpu" for name in SUBSET.split("|")]
    case = backend_test.test_cases["OnnxBackendNodeModelTest"]
    suite = unittest.TestSuite(map(case, names))
    result = unittest.TestResult()
    suite.run(result)
    assert not result.errors and not result.failures, [*result.errors, *result.failures][0][1]
    assert result.testsRun == len(names) and not result.skipped


def test_the_script_of_the_scoreboard() -> None:
    """The public scoreboard hands the module itself to BackendTest."""
    backend_test = onnx.backend.test.BackendTest(dlc.backend, __name__)
    backend_test.include(r"test_(abs|sequence_insert_at_front|string_concat)_")
    case = backend_test.test_cases["OnnxBackendNodeModelTest"]
    result = unittest.TestResult()
    for name in ("abs_cpu", "sequence_insert_at_front_cpu", "string_concat_cpu", "abs_cuda"):
        case(f"test_{name}").run(result)
    assert not result.errors and not result.failures, [*result.errors, *result.failures][0][1]
    assert [test.id().rpartition(".")[2] for test, _ in result.skipped] == ["test_abs_cuda"]


def test_the_suite_sees_a_wrong_engine() -> None:
    class Wrong(dlc.backend.DlcBackend):
        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: object) -> object:
            rep = super().prepare(model, device, **kwargs)
            rep.run = lambda inputs, **_: tuple(np.abs(inputs[0]) + 1 for _ in rep.model.outputs)
            return rep

    case = onnx.backend.test.BackendTest(Wrong, __name__).test_cases["OnnxBackendNodeModelTest"]
    result = unittest.TestResult()
    case("test_relu_cpu").run(result)
    assert result.failures


def test_prepare_and_run() -> None:
    inputs = affine_inputs()
    rep = dlc.backend.prepare(AFFINE, device="CPU", cache=False)
    for given in (list(inputs.values()), inputs):
        y, z = rep.run(given)
        np.testing.assert_allclose(y, affine_outputs(**inputs)[0], rtol=1e-6)
        np.testing.assert_allclose(z, affine_outputs(**inputs)[1], rtol=1e-6)
    again = dlc.backend.run_model(AFFINE, inputs)
    np.testing.assert_array_equal(again[0], y)


def test_run_node() -> None:
    a, b = np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32)
    (total,) = dlc.backend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [a, b])
    np.testing.assert_array_equal(total, a + b)
    clip = helper.make_node("Clip", ["x", "", "top"], ["y"])
    (cut,) = dlc.backend.run_node(clip, [b, np.float32(1)])
    np.testing.assert_array_equal(cut, np.minimum(b, 1))
    old = helper.make_node("Clip", ["x"], ["y"], max=1.0)
    (cut,) = dlc.backend.run_node(old, b, opset_version=10)
    np.testing.assert_array_equal(cut, np.minimum(b, 1))
    with pytest.raises(dlc.InputError, match="'top'"):
        dlc.backend.run_node(clip, [b])


def test_devices_and_compatibility(tmp_path: Path) -> None:
    assert dlc.backend.supports_device("CPU") and dlc.backend.supports_device("CPU:0")
    assert not dlc.backend.supports_device("CUDA")
    with pytest.raises(dlc.UnsupportedError, match="CUDA"):
        dlc.backend.prepare(AFFINE, device="CUDA")
    assert dlc.backend.is_compatible(AFFINE)
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["y"], domain="org.example")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    assert not dlc.backend.is_compatible(helper.make_model(graph, opset_imports=opsets))

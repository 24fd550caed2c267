"""The same code against onnxruntime and against dlc in its place, and what dlc refuses."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import dlc
from tests.api.small_models import AFFINE, PRODUCT, affine_inputs, affine_outputs

BYTES = AFFINE.SerializeToString()


@pytest.fixture(params=[onnxruntime, dlc], ids=["onnxruntime", "dlc"])
def ort(request: pytest.FixtureRequest) -> ModuleType:
    """The module that the script imports."""
    module: ModuleType = request.param
    return module


@pytest.fixture
def session(ort: ModuleType) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(BYTES, options, providers=["CPUExecutionProvider"])


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


def test_signature(session: Any) -> None:
    shown = [(arg.name, arg.type, arg.shape) for arg in (*session.get_inputs(), *session.get_outputs())]
    assert shown == [
        ("x", "tensor(float)", ["n", 3]),
        ("b", "tensor(float)", [3]),
        ("y", "tensor(float)", ["n", 3]),
        ("z", "tensor(float)", ["n", 3]),
    ]
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_provider_options() == {"CPUExecutionProvider": {}}
    assert list(session.get_overridable_initializers()) == []
    assert session.get_session_options().intra_op_num_threads == 2


def test_dims_without_a_name(ort: ModuleType) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "a.b", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, "a.b", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = ort.InferenceSession(model.SerializeToString())
    assert found.get_inputs()[0].shape == [None, "a.b", 2]
    assert found.get_outputs()[0].shape == [None, "a.b", 2]


def test_metadata(ort: ModuleType) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(AFFINE)
    model.producer_name, model.domain, model.model_version = "tests", "org.example", 7
    model.doc_string = "an example"
    helper.set_model_props(model, {"licence": "none", "author": "nobody"})
    meta = ort.InferenceSession(model.SerializeToString()).get_modelmeta()
    assert (meta.graph_name, meta.producer_name, meta.domain) == ("affine", "tests", "org.example")
    assert (meta.version, meta.description) == (7, "an example")
    assert meta.custom_metadata_map == {"licence": "none", "author": "nobody"}


def test_run(session: Any) -> None:
    inputs = affine_inputs()
    y, z = affine_outputs(**inputs)
    for names in (None, []):
        results = session.run(names, inputs)
        close(results[0], y)
        close(results[1], z)
    (only,) = session.run(["z"], inputs)
    close(only, z)
    assert isinstance(only, np.ndarray) and only.dtype == np.float32


def test_run_with_ort_values(ort: ModuleType, session: Any) -> None:
    inputs = affine_inputs()
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
    (z,) = session.run_with_ort_values(["z"], values)
    close(z.numpy(), affine_outputs(**inputs)[1])
    assert (z.shape(), z.data_type(), z.element_type()) == ([4, 3], "tensor(float)", 1)
    assert (z.device_name(), z.tensor_size_in_bytes()) == ("cpu", 48)
    assert z.is_tensor() and z.has_value() and not z.is_sparse_tensor() and not z.is_tensor_sequence()


def test_unknown_names(session: Any) -> None:
    with pytest.raises(Exception, match="nope"):
        session.run(["nope"], affine_inputs())
    with pytest.raises(Exception, match=r".+"):
        session.run("y", affine_inputs())
    first, second = session.run(("y", "y"), affine_inputs())
    close(first, second)


def test_absent_optional(ort: ModuleType) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (optional(float[n]) x) => (optional(float[n]) y)'
        " { y = Identity (x) }"
    )
    optional = ort.InferenceSession(model.SerializeToString())
    assert optional.run(None, {"x": None}) == [None]
    close(optional.run(None, {"x": np.ones(2, np.float32)})[0], [1, 1])


def test_strings(ort: ModuleType) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (string[n] x) => (string[n] y) { y = Identity (x) }'
    )
    (found,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": np.array(["a", "b"])})
    assert found.dtype == object and list(found) == ["a", "b"]


def test_arguments_of_the_constructor(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    options.inter_op_num_threads, options.execution_mode = 2, ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    ort.set_default_logger_severity(3)
    session = ort.InferenceSession(
        BYTES, options, ["CPUExecutionProvider"], provider_options=[{}], enable_fallback=False
    )
    close(session.run(["y"], affine_inputs())[0], affine_outputs(**affine_inputs())[0])
    assert isinstance(session.get_modelmeta(), ort.ModelMetadata)
    assert "CPUExecutionProvider" in ort.get_all_providers()


def test_sources_that_are_none(ort: ModuleType, tmp_path: Path) -> None:
    for source in (None, b"", b"no model", str(tmp_path / "absent.onnx")):
        with pytest.raises(Exception, match=r".+"):
            ort.InferenceSession(source, providers=["CPUExecutionProvider"])


def test_missing_input_is_a_value_error(session: Any) -> None:
    with pytest.raises(ValueError, match="missing"):
        session.run(None, {"x": affine_inputs()["x"]})


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.zeros((2, 3)), "b": np.zeros(3, np.float32)},
        {"x": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float32)},
        {"x": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32), "c": np.zeros(3, np.float32)},
    ],
    ids=["dtype", "shape", "name"],
)
def test_arrays_that_do_not_fit(session: Any, feed: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"x|c"):
        session.run(None, feed)


def test_binding_to_arrays(session: Any) -> None:
    inputs = affine_inputs()
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    y = np.zeros((4, 3), np.float32)
    binding.bind_output(
        "y", device_type="cpu", device_id=0, element_type=np.float32, shape=y.shape, buffer_ptr=y.ctypes.data
    )
    binding.bind_output("z")
    for _ in range(2):
        session.run_with_iobinding(binding)
        close(y, affine_outputs(**inputs)[0])
        close(binding.copy_outputs_to_cpu()[1], affine_outputs(**inputs)[1])
        inputs["x"] += 1  # read where it lies
    assert binding.get_outputs()[0].data_ptr() == y.ctypes.data


def test_binding_to_memory_and_values(ort: ModuleType, session: Any) -> None:
    inputs = affine_inputs()
    binding = session.io_binding()
    x, b = inputs["x"], ort.OrtValue.ortvalue_from_numpy(inputs["b"])
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_ortvalue_input("b", b)
    y = ort.OrtValue.ortvalue_from_shape_and_type([4, 3], np.float32)
    z = ort.OrtValue.ortvalue_from_numpy(np.zeros((4, 3), np.float32))
    binding.bind_ortvalue_output("y", y)
    binding.bind_ortvalue_output("z", z)
    binding.synchronize_inputs()
    for number in range(3):
        b.update_inplace(np.full(3, number, np.float32))
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        close(y.numpy(), affine_outputs(x, b.numpy())[0])
        close(z.numpy(), affine_outputs(x, b.numpy())[1])
    binding.clear_binding_inputs()
    with pytest.raises(Exception, match=r".+"):
        session.run_with_iobinding(binding)


def test_run_async(session: Any) -> None:
    finished, seen = threading.Event(), []

    def callback(results: Any, data: Any, error: str) -> None:
        seen.append((results, data, error))
        finished.set()

    inputs = affine_inputs()
    session.run_async(["y"], inputs, callback, "mine")
    assert finished.wait(30)
    ((results, data, error),) = seen
    close(results[0], affine_outputs(**inputs)[0])
    assert (data, error) == ("mine", "")


def test_terminated_run(ort: ModuleType) -> None:
    session = ort.InferenceSession(PRODUCT.SerializeToString())
    feed = {"x": np.ones((2, 256), np.float32), "w": np.ones((256, 512), np.float32)}
    options = ort.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match=r"terminate|cancelled"):
        session.run(None, feed, options)
    options.terminate = False
    assert session.run(None, feed, options)[0][0, 0] == 256


def test_fixed_dim(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 5)
    session = ort.InferenceSession(BYTES, sess_options=options)
    assert session.get_inputs()[0].shape == [5, 3]
    close(session.run(["y"], affine_inputs(5))[0], affine_outputs(**affine_inputs(5))[0])
    with pytest.raises(Exception, match="4"):
        session.run(["y"], affine_inputs(4))


def test_model_from_a_path(ort: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "affine.onnx"
    path.write_bytes(BYTES)
    session = ort.InferenceSession(str(path), providers=ort.get_available_providers())
    close(session.run(None, affine_inputs())[0], affine_outputs(**affine_inputs())[0])


def test_several_threads_in_one_session(session: Any) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for rows in range(1, 20):
                inputs = affine_inputs(rows, seed)
                close(session.run(["y"], inputs)[0], affine_outputs(**inputs)[0])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- dlc alone


def test_package(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(AFFINE)
    model.producer_name = "tests"
    path = tmp_path / "affine.dlc"
    dlc.compile(model, cache=False).save(path)
    session = dlc.InferenceSession(path)
    assert session.get_modelmeta().producer_name == "tests"
    assert session.get_inputs()[0].shape == ["n", 3]
    close(session.run(["y"], affine_inputs())[0], affine_outputs(**affine_inputs())[0])


def test_expressions_over_names() -> None:
    body = "c = Concat <axis = 0> (x, y)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[n] x, float[m] y) => (float[k] c) {{ {body} }}'
    )
    assert dlc.InferenceSession(model.SerializeToString()).get_outputs()[0].shape == ["m + n"]


def test_names_in_errors() -> None:
    session = dlc.InferenceSession(BYTES)
    with pytest.raises(dlc.InputError, match=r"'nope'; there are: y, z"):
        session.run(["nope"], affine_inputs())
    for names in ("y", [0]):
        with pytest.raises(dlc.InputError, match="list of names"):
            session.run(names, affine_inputs())
    with pytest.raises(dlc.InputError, match="dictionary"):
        session.run(None, list(affine_inputs().values()))
    with pytest.raises(dlc.InputError, match="absent"):
        dlc.InferenceSession("absent.onnx")


def test_a_value_in_the_model_is_not_overridden_in_silence() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n] x, float[1] w) => (float[n] y)'
        " <float[1] w = {2.0}> { y = Mul (x, w) }"
    )
    session = dlc.InferenceSession(model.SerializeToString())
    feed = {"x": np.ones(2, np.float32)}
    assert [arg.name for arg in session.get_inputs()] == ["x"]
    close(session.run(None, feed)[0], [2, 2])
    with pytest.raises(dlc.InputError, match=r"'w' has a value in the model.*initializer"):
        session.run(None, feed | {"w": np.ones(1, np.float32)})


def test_arguments_that_cannot_be_honoured(tmp_path: Path) -> None:
    with pytest.raises(dlc.UnsupportedError, match="--skip"):
        dlc.InferenceSession(BYTES, disabled_optimizers=["ConstantFolding"])
    with pytest.raises(dlc.InputError, match="'no_such'"):
        dlc.InferenceSession(BYTES, no_such=1)
    path = tmp_path / "affine.dlc"
    dlc.InferenceSession(BYTES, strict=True).compiled_model.save(path)
    assert dlc.InferenceSession(path, threads=1, copy_weights=True).get_providers()
    with pytest.raises(dlc.InputError, match=r"'strict'.*dlc\.load"):
        dlc.InferenceSession(path, strict=True)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [("enable_profiling", True, "dlc profile"), ("optimized_model_filepath", "x.onnx", "save")],
)
def test_refused_options_name_the_remedy(name: str, value: Any, remedy: str) -> None:
    options = dlc.SessionOptions()
    with pytest.raises(dlc.UnsupportedError, match=remedy):
        setattr(options, name, value)
    setattr(options, name, getattr(options, name))  # the default is accepted


def test_unknown_options() -> None:
    with pytest.raises(dlc.InputError, match="num_threads"):
        dlc.SessionOptions().num_threads = 2
    with pytest.raises(AttributeError, match="num_threads"):
        _ = dlc.SessionOptions().num_threads
    with pytest.raises(dlc.UnsupportedError, match="libraries"):
        dlc.SessionOptions().register_custom_ops_library("lib.so")
    with pytest.raises(dlc.UnsupportedError, match="denormal"):
        dlc.SessionOptions().add_session_config_entry("session.set_denormal_as_zero", "1")
    with pytest.raises(dlc.InputError, match="graph_optimization_level"):
        options = dlc.SessionOptions()
        options.graph_optimization_level = 42
        dlc.InferenceSession(BYTES, options)
    with pytest.raises(dlc.InputError, match="sess_options"):
        dlc.InferenceSession(BYTES, onnxruntime.SessionOptions())
    with pytest.raises(dlc.InputError, match="run_options"):
        dlc.InferenceSession(BYTES).run(None, affine_inputs(), onnxruntime.RunOptions())


def test_providers() -> None:
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session = dlc.InferenceSession(BYTES, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert session.get_providers() == dlc.get_available_providers() == ["CPUExecutionProvider"]
    assert dlc.get_device() == "CPU"
    with pytest.raises(dlc.InputError, match="list"):
        dlc.InferenceSession(BYTES, providers="CPUExecutionProvider")


def test_refused_bindings() -> None:
    binding = dlc.InferenceSession(BYTES).io_binding()
    with pytest.raises(dlc.InputError, match="'q'"):
        binding.bind_cpu_input("q", np.zeros(3, np.float32))
    with pytest.raises(dlc.InputError, match="cuda"):
        binding.bind_output("y", "cuda")
    with pytest.raises(dlc.InputError, match="shape"):
        binding.bind_output("y", buffer_ptr=64)
    with pytest.raises(dlc.InputError, match="lies at 0"):
        binding.bind_input("x", "cpu", 0, np.float32, (4, 3), 0)
    with pytest.raises(dlc.InputError, match="bind_output"):
        binding.run()
    for name, array in affine_inputs().items():
        binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_output("y", dlc.OrtValue.ortvalue_from_shape_and_type([9, 3], np.float32))
    with pytest.raises(dlc.InputError, match="shape"):
        binding.run()


def test_values_by_dlpack() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    value = dlc.OrtValue.from_dlpack(array)
    assert value.data_type() == "tensor(int64)"
    np.testing.assert_array_equal(np.from_dlpack(value), array)
    small = dlc.OrtValue.ortvalue_from_shape_and_type([2, 3], TensorProto.BFLOAT16)
    again = dlc.OrtValue.from_dlpack(small)
    again.numpy()[0, 1] = 2
    assert again.numpy().dtype == small.numpy().dtype and small.numpy()[0, 1] == 2
    with pytest.raises(dlc.InputError, match="no DLPack tensor"):
        dlc.OrtValue.from_dlpack([1.0])
    assert dlc.OrtValue.ortvalue_from_shape_and_type([2], TensorProto.BFLOAT16).data_type() == (
        "tensor(bfloat16)"
    )

"""Models for GPUs on machines without one: packages, pickles, options, errors, whole small models."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("triton")

import dlc
from dlc.api.gpu.build import PLAN_MEMBER
from dlc.api.gpu.model import GpuModel
from dlc.errors import Error, InputError, PackageError, UnsupportedError
from dlc.runtime.cuda import device_count
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.api.small_models import AFFINE, GATHER, affine_inputs, affine_outputs, parse
from tests.helpers.gpu_models import TARGET, interpreted, open_interpreted, run_both

Array: TypeAlias = "np.ndarray[Any, Any]"


def has_gpu() -> bool:
    try:
        return device_count() > 0
    except Error:
        return False


without_gpu = pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")


@pytest.fixture(scope="module")
def compiled() -> dlc.CompiledModel:
    """AFFINE, with binaries."""
    return dlc.compile(AFFINE, target=TARGET, cache=False)


# --- packages


def test_a_compiled_model_says_what_it_is(compiled: dlc.CompiledModel) -> None:
    assert isinstance(compiled, GpuModel)
    assert [spec.name for spec in compiled.inputs] == ["x", "b"]
    report = compiled.report()
    assert report.target == TARGET and report.hosts == ()
    assert report.kernels and all(kernel.template == "pointwise" for kernel in report.kernels)
    assert all(binary.code.startswith(b"\x7fELF") for binary in compiled._gpu.binaries)


def test_a_package_is_the_same_model(compiled: dlc.CompiledModel, tmp_path: Path) -> None:
    assert isinstance(compiled, GpuModel)
    path = tmp_path / "affine.dlc"
    compiled.save(path)
    assert path.read_bytes() == compiled.to_bytes()
    for loaded in (dlc.load(path), dlc.load(compiled.to_bytes()), pickle.loads(pickle.dumps(compiled))):
        assert isinstance(loaded, GpuModel)
        assert loaded.inputs == compiled.inputs and loaded.outputs == compiled.outputs
        assert loaded._gpu.plan == compiled._gpu.plan and loaded._gpu.binaries == compiled._gpu.binaries
        assert loaded.report().kernels == compiled.report().kernels
        assert loaded.to_bytes() == compiled.to_bytes()


def test_a_loaded_plan_runs(compiled: dlc.CompiledModel) -> None:
    """The package's plan and weights with the functions that it was compiled from."""
    model = parse("dense (float[n, 3] x) => (float[n, 4] y)", "m = MatMul (x, w)  y = Relu (m)")
    weight = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    with dlc.compile(model, target=TARGET, cache=False) as made:
        assert isinstance(made, GpuModel)
        loaded = dlc.load(made.to_bytes())
        assert isinstance(loaded, GpuModel)
        artifact = dataclasses.replace(loaded._gpu, functions=made._gpu.functions)
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    with open_interpreted(artifact) as model_of_package:
        np.testing.assert_allclose(
            model_of_package.run(None, {"x": x})[0], np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-6
        )


def test_two_compilations_give_equal_bytes(compiled: dlc.CompiledModel) -> None:
    assert dlc.compile(AFFINE, target=TARGET, cache=False).to_bytes() == compiled.to_bytes()


def damaged(content: bytes, member: str, change: Any) -> bytes:
    """The package with a member's bytes changed, its digests as they were."""
    made = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info, change(data) if info.filename == member else data)
    return made.getvalue()


def test_damaged_packages(compiled: dlc.CompiledModel) -> None:
    content = compiled.to_bytes()
    for change in (
        lambda data: b"{}",
        lambda data: data[:-1],
        lambda data: data.replace(b"Launch", b"Lunch"),
    ):
        with pytest.raises(PackageError):
            dlc.load(damaged(content, PLAN_MEMBER, change), verify=True)
    with pytest.raises(PackageError):
        dlc.load(damaged(content, PLAN_MEMBER, lambda data: b"[]"))


def test_a_plan_of_another_model() -> None:
    affine, gather = (dlc.compile(model, target=TARGET, cache=False) for model in (AFFINE, GATHER))
    assert isinstance(affine, GpuModel) and isinstance(gather, GpuModel)
    plan = gather._gpu.members[PLAN_MEMBER]
    swapped = dataclasses.replace(affine._gpu, members={**affine._gpu.members, PLAN_MEMBER: plan})
    with pytest.raises(PackageError, match="plan of the GPU program"):
        dlc.load(swapped.to_bytes())


# --- calls and errors


@without_gpu
def test_a_call_without_a_gpu_says_so(compiled: dlc.CompiledModel) -> None:
    for _ in range(2):
        with pytest.raises(UnsupportedError) as caught:
            compiled(affine_inputs())
        assert "NVIDIA" in caught.value.message
        assert caught.value.hint


@without_gpu
def test_the_gpu_at_hand_needs_one() -> None:
    with pytest.raises(UnsupportedError, match=r"GPU|CUDA|NVIDIA"):
        dlc.compile(AFFINE, target="cuda", cache=False)


@pytest.mark.parametrize("name", ["cuda:sm_12", "cuda:sm_90x", "cuda:", "cuda:0", "cudas"])
def test_unknown_targets(name: str) -> None:
    with pytest.raises(InputError, match="target"):
        dlc.compile(AFFINE, target=name, cache=False)


def test_options_that_are_not_for_gpus() -> None:
    with pytest.raises(UnsupportedError, match="debug_codegen"):
        dlc.compile(AFFINE, target=TARGET, cache=False, debug_codegen=True)


def test_closed_models() -> None:
    model = interpreted(AFFINE)
    model.run(None, affine_inputs())
    model.close()
    model.close()
    with pytest.raises(InputError, match="closed"):
        model.run(None, affine_inputs())
    unused = interpreted(AFFINE)
    unused.close()
    with pytest.raises(InputError, match="closed"):
        unused(affine_inputs())


def test_prepared_calls() -> None:
    with interpreted(AFFINE) as model:
        feeds = affine_inputs()
        call = model.prepare(feeds)
        for _ in range(2):
            np.testing.assert_array_equal(call()["y"], affine_outputs(**feeds)[0])
        with pytest.raises(UnsupportedError, match="out="):
            model.prepare(feeds, out={"y": np.zeros((4, 3), np.float32)})


def test_torch_tensors_of_the_host_give_such_results() -> None:
    torch = pytest.importorskip("torch")
    feeds = affine_inputs()
    with interpreted(AFFINE) as model:
        y = model(torch.from_numpy(feeds["x"]), torch.from_numpy(feeds["b"]))["y"]
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), affine_outputs(**feeds)[0])


def test_inputs_need_not_be_contiguous() -> None:
    feeds = affine_inputs()
    with interpreted(AFFINE) as model:
        y = model.run(None, {**feeds, "x": np.asfortranarray(feeds["x"])})[0]
        np.testing.assert_array_equal(y, affine_outputs(**feeds)[0])
        x = np.repeat(feeds["x"], 2, axis=0)[::2]
        np.testing.assert_array_equal(model.run(None, {**feeds, "x": x})[0], y)


# --- whole models


def weights(model: onnx.ModelProto, **arrays: Array) -> onnx.ModelProto:
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def normal(*shape: int, seed: int = 0, scale: float = 0.3) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def mlp() -> onnx.ModelProto:
    model = parse(
        "mlp (float[n, 20] x) => (float[n, 5] y)",
        "a = Gemm (x, w, b)  c = Relu (a)  d = Gemm (c, v, u)  y = Softmax <axis = 1> (d)",
    )
    return weights(model, w=normal(20, 33), b=normal(33), v=normal(33, 5), u=normal(5))


def residual() -> onnx.ModelProto:
    model = parse(
        "residual (float[n, 3, h, w] x) => (float[n, 6] y)",
        """
        a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, k, b)
        c = BatchNormalization (a, s, o, m, v)
        d = Relu (c)
        e = Conv <pads = [1, 1, 1, 1]> (d, l)
        f = Add (e, d)
        g = Relu (f)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (g)
        q = GlobalAveragePool (p)
        y = Flatten (q)
        """,
    )
    return weights(
        model,
        k=normal(6, 3, 3, 3),
        b=normal(6),
        s=normal(6, seed=1) + np.float32(1),
        o=normal(6, seed=2),
        m=normal(6, seed=3),
        v=np.abs(normal(6, seed=4)) + np.float32(0.5),
        l=normal(6, 6, 3, 3, seed=5),
    )


def attention() -> onnx.ModelProto:
    model = parse(
        "attention (float[n, t, 16] x) => (float[n, t, 16] y)",
        """
        g = LayerNormalization <axis = -1> (x, s, o)
        split = Constant <value = int64[4] {0, 0, 2, 8}> ()
        back = Constant <value = int64[3] {0, 0, 16}> ()
        eighth = Constant <value_float = 0.35355339> ()
        q0 = MatMul (g, wq)  k0 = MatMul (g, wk)  v0 = MatMul (g, wv)
        q1 = Reshape (q0, split)  k1 = Reshape (k0, split)  v1 = Reshape (v0, split)
        q = Transpose <perm = [0, 2, 1, 3]> (q1)
        k = Transpose <perm = [0, 2, 3, 1]> (k1)
        v = Transpose <perm = [0, 2, 1, 3]> (v1)
        z = MatMul (q, k)
        zs = Mul (z, eighth)
        a = Softmax <axis = -1> (zs)
        r = MatMul (a, v)
        rt = Transpose <perm = [0, 2, 1, 3]> (r)
        rr = Reshape (rt, back)
        out = MatMul (rr, wo)
        y = Add (out, x)
        """,
    )
    return weights(
        model,
        s=normal(16) + np.float32(1),
        o=normal(16, seed=1),
        **{name: normal(16, 16, seed=index) for index, name in enumerate(("wq", "wk", "wv", "wo"))},
    )


def lstm() -> onnx.ModelProto:
    model = parse(
        "recurrent (float[t, n, 5] x) => (float[t, 2, n, 6] y, float[2, n, 6] h)",
        'y, h, c = LSTM <hidden_size = 6, direction = "bidirectional"> (x, w, r, b)',
    )
    return weights(model, w=normal(2, 24, 5), r=normal(2, 24, 6, seed=1), b=normal(2, 48, seed=2))


def embedding() -> onnx.ModelProto:
    model = parse(
        "embedding (int64[n, t] ids, bool[n, t] mask) => (float[n, 8] y, int64[n] best)",
        """
        zero = Constant <value_float = 0.0> ()
        one = Constant <value = int64[1] {1}> ()
        last = Constant <value = int64[1] {-1}> ()
        e = Gather (table, ids)
        m = Unsqueeze (mask, last)
        k = Where (m, e, zero)
        y = ReduceSum <keepdims = 0> (k, one)
        best = ArgMax <axis = 1, keepdims = 0> (y)
        """,
    )
    return weights(model, table=normal(11, 8))


def quantized() -> onnx.ModelProto:
    model = parse(
        "quantized (float[n, 12] x) => (float[n, 7] y)",
        """
        a = QuantizeLinear (x, xs, xz)
        b = DequantizeLinear (a, xs, xz)
        w = DequantizeLinear (wq, ws, wz)
        c = MatMul (b, w)
        d = QuantizeLinear (c, ys, yz)
        y = DequantizeLinear (d, ys, yz)
        """,
    )
    return weights(
        model,
        xs=np.float32(0.02),
        xz=np.uint8(120),
        wq=np.random.default_rng(0).integers(-127, 128, (12, 7)).astype(np.int8),
        ws=np.float32(0.01),
        wz=np.int8(0),
        ys=np.float32(0.05),
        yz=np.uint8(128),
    )


FEEDS: dict[str, tuple[Any, list[dict[str, Array]]]] = {
    "mlp": (mlp, [{"x": normal(n, 20, scale=1)} for n in (1, 17)]),
    "residual": (residual, [{"x": normal(n, 3, h, w, scale=1)} for n, h, w in ((1, 9, 7), (2, 4, 5))]),
    "attention": (attention, [{"x": normal(n, t, 16, scale=1)} for n, t in ((1, 1), (2, 9))]),
    "lstm": (lstm, [{"x": normal(t, n, 5, scale=1)} for t, n in ((1, 1), (4, 3))]),
    "embedding": (
        embedding,
        [
            {"ids": np.arange(n * t).reshape(n, t) % 11 - 3, "mask": np.arange(n * t).reshape(n, t) % 3 > 0}
            for n, t in ((2, 7), (1, 1), (3, 0))
        ],
    ),
    "quantized": (quantized, [{"x": normal(n, 12, scale=1)} for n in (1, 9)]),
}


@pytest.mark.parametrize("name", FEEDS)
def test_whole_models_are_as_on_the_cpu(name: str) -> None:
    make, feeds = FEEDS[name]
    for given in feeds:
        actual, expected = run_both(make(), given)
        for index, (got, want) in enumerate(zip(actual, expected, strict=True)):
            assert got.dtype == want.dtype and got.shape == want.shape
            work = Work.QUANTIZED_MODEL if name == "quantized" else Work.MODEL
            difference = compare_arrays(f"output {index}", got, want, tolerance(want.dtype, work))
            assert difference.agrees, difference

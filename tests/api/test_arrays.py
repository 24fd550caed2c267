"""Whatever a caller may pass for an array: the same answer, or an error that names the input."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from dlc.errors import InputError, ShapeError
from tests.api.small_models import affine_inputs, affine_outputs, parse

X, B = affine_inputs().values()


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers at an address that is no multiple of the item size."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    result = raw[1:].view(array.dtype).reshape(array.shape)
    assert not result.flags.aligned
    return result


def strided(array: np.ndarray) -> np.ndarray:
    """Every other element of a larger array."""
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array: np.ndarray) -> np.ndarray:
    result = array.copy()
    result.flags.writeable = False
    return result


def subclass(array: np.ndarray) -> np.ndarray:
    class Tagged(np.ndarray):
        """An array with another class."""

    return array.view(Tagged)


GOOD: dict[str, Callable[[np.ndarray], Any]] = {
    "as it is": lambda x: x,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "transposed": lambda x: x.T.copy().T,
    "broadcast": lambda x: np.broadcast_to(x, (1, *x.shape))[0],
    "read-only": read_only,
    "big-endian": lambda x: x.astype(">f4"),
    "misaligned": misaligned,
    "a subclass": subclass,
    "a nested list": lambda x: x.tolist(),
    "a list of arrays": list,
    "a view into a larger array": lambda x: np.concatenate([x[:1], x, x[:1]])[1:-1],
    "an object with DLPack only": lambda x: _DLPack(x),
}


class _DLPack:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("form", GOOD.values(), ids=GOOD.keys())
def test_every_form_of_an_array_gives_the_same_bits(affine: dlc.CompiledModel, form: Any) -> None:
    expected = affine(X, B)
    for _ in range(2):  # the first call and the one that finds its plan
        got = affine(form(X), B)
        assert all(np.array_equal(a, e) for a, e in zip(got, expected))
    assert np.array_equal(expected[0], affine_outputs(X, B)[0])


def test_inputs_may_overlap_and_are_never_written(affine: dlc.CompiledModel) -> None:
    memory = np.arange(12, dtype=np.float32).reshape(4, 3)
    before = memory.copy()
    y, z = affine(memory, memory[0])
    assert np.array_equal(y, before * 2 + before[0]) and np.array_equal(memory, before)
    assert not np.may_share_memory(y, memory) and not np.may_share_memory(y, z)


def test_the_outputs_of_two_calls_are_their_own(affine: dlc.CompiledModel) -> None:
    first = affine(X, B)["y"]
    kept = first.copy()
    affine(X + 1, B)
    assert np.array_equal(first, kept) and first.flags.writeable and first.flags.owndata


def test_an_array_may_be_dropped_while_its_results_live(affine: dlc.CompiledModel) -> None:
    y = affine(X.copy(), B.copy())["y"]
    gc.collect()
    assert np.array_equal(y, affine_outputs(X, B)[0])


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_extents_of_every_size(affine: dlc.CompiledModel, rows: int) -> None:
    inputs = affine_inputs(rows)
    for _ in range(2):
        y, z = affine(inputs)
        assert y.shape == z.shape == (rows, 3)
        assert np.array_equal(y, affine_outputs(**inputs)[0])


def test_many_shapes_do_not_pile_up(affine: dlc.CompiledModel) -> None:
    for rows in range(600):
        assert affine(np.ones((rows, 3), np.float32), B)["y"].shape == (rows, 3)
    assert len(affine._plans) <= 256


@pytest.mark.parametrize(
    "value",
    [np.float32(2), np.array(2, np.float32), np.array(2, ">f4"), 2.0, 2, read_only(np.array(2, np.float32))],
    ids=["scalar", "0-d", "0-d big-endian", "float", "int", "0-d read-only"],
)
def test_arrays_of_rank_0(value: Any) -> None:
    with dlc.compile(parse("g (float x) => (float y)", "y = Exp (x)"), cache=False) as model:
        y = model(value)["y"]
        assert y.shape == () and abs(float(y) - np.exp(2.0)) < 1e-5


BAD: dict[str, tuple[Any, type[Exception], str, str]] = {
    "float64": (X.astype(np.float64), InputError, "input/dtype", "must have dtype float32, not float64"),
    "integers": (X.astype(np.int32), InputError, "input/dtype", "not int32"),
    "complex": (X.astype(np.complex64), InputError, "input/dtype", "not complex64"),
    "objects": (X.astype(object), InputError, "input/dtype", "not object"),
    "strings": (X.astype(str), InputError, "input/dtype", "must have dtype float32"),
    "records": (np.zeros((4, 3), [("a", "f4")]), InputError, "input/dtype", "must have dtype float32"),
    "rank 1": (X[0], ShapeError, "input/shape", r"must have shape \[n, 3\], not \[3\]"),
    "rank 3": (X[None], ShapeError, "input/shape", r"not \[1, 4, 3\]"),
    "a wrong extent": (np.zeros((4, 2), np.float32), ShapeError, "input/shape", r"not \[4, 2\]"),
    "None": (None, InputError, "input/array", "not NoneType"),
    "a string": ("x", InputError, "input/array", "not str"),
    "a dict": ({1: 2}, InputError, "input/array", "not dict"),
    "a ragged list": ([[1.0], [1.0, 2.0]], InputError, "input/array", "cannot be read"),
    "a list of strings": ([["a", "b", "c"]], InputError, "input/dtype", "must have dtype float32"),
    "a module": (np, InputError, "input/array", "not module"),
}


@pytest.mark.parametrize(("value", "error", "code", "words"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_named(
    affine: dlc.CompiledModel, value: Any, error: type[Exception], code: str, words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        affine(value, B)
    assert isinstance(caught.value, dlc.Error) and caught.value.code == code and "'x'" in str(caught.value)
    assert np.array_equal(affine(X, B)["y"], affine_outputs(X, B)[0])


def test_equal_symbols_must_be_equal() -> None:
    model = dlc.compile(parse("g (float[n] a, float[n] b) => (float[n] y)", "y = Add (a, b)"), cache=False)
    with pytest.raises(ShapeError):
        model(np.zeros(3, np.float32), np.zeros(4, np.float32))
    with pytest.raises(ShapeError):  # not even where broadcasting would do
        model(np.zeros(3, np.float32), np.zeros(1, np.float32))


# --- torch

torch = pytest.importorskip("torch")


def test_torch_tensors_give_torch_tensors(affine: dlc.CompiledModel) -> None:
    for x in (torch.tensor(X), torch.tensor(X.T.copy()).T, torch.tensor(X).expand(4, 3)):
        y, z = affine(x, torch.tensor(B))
        assert isinstance(y, torch.Tensor) and isinstance(z, torch.Tensor)
        assert np.array_equal(y.numpy(), affine_outputs(X, B)[0])
    mixed = affine(torch.tensor(X), B)
    assert isinstance(mixed["y"], torch.Tensor)


def test_torch_bfloat16() -> None:
    model = dlc.compile(parse("g (bfloat16[n] x) => (bfloat16[n] y)", "y = Neg (x)", opset=22), cache=False)
    x = torch.arange(5, dtype=torch.bfloat16)
    y = model(x)["y"]
    assert y.dtype is torch.bfloat16 and torch.equal(y, -x)
    import ml_dtypes

    array = np.arange(5).astype(ml_dtypes.bfloat16)
    assert np.array_equal(model(array)["y"], -array)
    assert np.array_equal(model(read_only(array))["y"], -array)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float16", "uint8", "bool"])
def test_torch_types(name: str) -> None:
    import ml_dtypes

    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(getattr(ml_dtypes, name, name)))
    x, y = (onnx.helper.make_tensor_value_info(n, dtype, ["n", 2]) for n in "xy")
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["t"]),
        onnx.helper.make_node("Transpose", ["t"], ["y"]),
    ]
    opsets = [onnx.helper.make_opsetid("", 22)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets)
    with dlc.compile(model, cache=False) as compiled:
        tensor = torch.tensor([[0.0, 1.0], [1.0, 0.5], [2.0, 4.0]]).to(getattr(torch, name))
        for given in (tensor, tensor[1:], tensor.T.contiguous().T):
            result = compiled(given)["y"]
            assert result.dtype is tensor.dtype and torch.equal(result.float(), given.float())


def test_torch_tensors_in_prepared_calls(affine: dlc.CompiledModel) -> None:
    x, y = torch.tensor(X), torch.empty(4, 3)
    call = affine.prepare({"x": x, "b": B}, {"y": y})
    outputs = call()
    assert outputs["y"] is y and isinstance(outputs["z"], torch.Tensor)
    x += 1
    call()
    assert np.array_equal(y.numpy(), affine_outputs(X + 1, B)[0])
    assert np.allclose(outputs["z"].numpy(), np.tanh(X + 1), atol=1e-6)
    for bad, words in [
        (torch.empty(4, 3).requires_grad_(), "output 'y' requires gradients"),
        (torch.empty(3, 4).T, r"out\['y'\] must be contiguous"),
        (torch.empty(4, 3, device="meta"), "output 'y' lies on meta"),
        (x, r"out\['y'\] overlaps"),
    ]:
        with pytest.raises(InputError, match=words):
            affine.prepare({"x": x, "b": B}, {"y": bad})


def test_torch_tensors_that_do_not_fit(affine: dlc.CompiledModel) -> None:
    x, b = torch.tensor(X), torch.tensor(B)
    for value, words in [
        (x.clone().requires_grad_(), "requires gradients"),
        (x.to("meta"), "lies on meta"),
        (x.to_sparse(), "cannot be read"),
        (torch.view_as_complex(torch.zeros(4, 3, 2)).conj().imag, "cannot be read"),
        (torch.nn.Parameter(x.clone()), "pass tensor.detach"),
        (x.double(), "must have dtype float32, not float64"),
        (torch.float32, "not dtype"),
        (torch, "not module"),
    ]:
        with pytest.raises(InputError, match=words):
            affine(value, b)

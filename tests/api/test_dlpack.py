"""DLPack in and out: memory that is shared, given back once, refused where it cannot be read."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import dlc
from dlc.api import dlpack
from dlc.api.arrays import as_array
from dlc.errors import InputError
from tests.api.small_models import affine_inputs, affine_outputs, parse

X, B = affine_inputs().values()


class Producer:
    """A library of its own: a buffer, and capsules around it that count how often they are given back."""

    def __init__(self, array: np.ndarray, **changes: Any) -> None:
        self.array = array
        self.changes = {"device": (1, 0), "lanes": 1, "flags": 0, "major": 1, "version": True, **changes}
        self.returned = 0
        self._alive: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.changes["device"]

    def __dlpack__(self, **options: Any) -> Any:
        is_versioned = self.changes["version"]
        if not is_versioned and options:
            raise TypeError("this library is from before version 1")
        array = self.array
        managed: Any = dlpack._Versioned(self.changes["major"], 0) if is_versioned else dlpack._Managed()
        code, bits = dlpack._CODES[array.dtype]
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        strides = (ctypes.c_int64 * array.ndim)(*(stride // array.itemsize for stride in array.strides))
        managed.tensor = dlpack._Tensor(
            array.ctypes.data - 8,
            dlpack._Device(*self.changes["device"]),
            array.ndim,
            dlpack._DataType(code, bits, self.changes["lanes"]),
            shape,
            strides if not array.flags.c_contiguous else None,
            8,
        )
        if is_versioned:
            managed.flags = self.changes["flags"]

        def give_back(_: int) -> None:
            self.returned += 1

        deleter = dlpack._DELETER(give_back)
        managed.deleter = ctypes.cast(deleter, ctypes.c_void_p)
        self._alive += [managed, shape, strides, deleter]
        name = b"dltensor_versioned" if is_versioned else b"dltensor"
        self._alive.append(name)
        return dlpack._new(ctypes.addressof(managed), name, dlpack._DESTRUCTOR(0))


@pytest.mark.parametrize("version", [True, False], ids=["version 1", "version 0"])
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_a_tensor_is_read_where_it_lies_and_given_back_once(version: bool, strided: bool) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    producer = Producer(base[:, ::2] if strided else base, version=version)
    array, family = as_array("x", producer, base.dtype)
    assert np.array_equal(array, producer.array) and np.may_share_memory(array, base) and family is None
    part = array[1:]
    del array
    gc.collect()
    assert producer.returned == 0
    del part
    assert producer.returned == 1


def test_a_model_takes_it(affine: dlc.CompiledModel) -> None:
    producer = Producer(X)
    for _ in range(3):
        y = affine(producer, B)["y"]
        assert isinstance(y, np.ndarray) and np.array_equal(y, affine_outputs(X, B)[0])
    assert producer.returned == 3


@pytest.mark.parametrize("dtype", dlpack._CODES, ids=str)
def test_every_type(dtype: np.dtype) -> None:
    array = np.array([[1, 2, 4], [2, 1, 1]]).astype(dtype)
    for source in (Producer(array), Producer(array.T), Producer(array[:0]), Producer(np.array(array[0, 1]))):
        got = dlpack.from_dlpack(source)
        assert got.dtype == dtype and np.array_equal(got.astype(complex), source.array.astype(complex))
    there_and_back = dlpack.from_dlpack(dlpack.exporter(array.T))
    assert there_and_back.dtype == dtype and np.may_share_memory(there_and_back, array)
    assert np.array_equal(there_and_back.astype(complex), array.T.astype(complex))


def test_what_was_exported_is_forgotten() -> None:
    array = np.ones(3, ml_dtypes.bfloat16)
    exported = dlpack.exporter(array)
    capsules = [exported.__dlpack__(), exported.__dlpack__(max_version=(1, 0))]
    taken = dlpack.from_dlpack(exported)
    assert len(dlpack._given) == 3
    del capsules, taken
    assert not dlpack._given
    with pytest.raises(BufferError, match="int4"):
        dlpack.exporter(np.ones(3, ml_dtypes.int4))


def test_memory_that_must_not_be_written(affine: dlc.CompiledModel) -> None:
    y = np.zeros((4, 3), np.float32)
    producer = Producer(y, flags=dlpack._READ_ONLY)
    assert np.array_equal(affine(producer, B)["y"], affine_outputs(y, B)[0])
    with pytest.raises(InputError, match=r"out\['y'\] must be contiguous and writable"):
        affine.prepare({"x": X, "b": B}, {"y": producer})
    writable = Producer(y)
    outputs = affine.prepare({"x": X, "b": B}, {"y": writable})()
    assert outputs["y"] is writable and np.array_equal(y, affine_outputs(X, B)[0])


class _Old:
    """A capsule that was taken before."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        capsule = dlpack.exporter(np.zeros(3, ml_dtypes.bfloat16)).__dlpack__()
        dlpack._Memory(capsule)
        return capsule


class _Broken(Producer):
    """A library with an error of its own."""

    def __dlpack__(self, **_: Any) -> Any:
        raise LookupError("the buffer was donated")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Producer(X, device=(2, 1)), "lies on device 2:1 of DLPack"),
        (Producer(X, lanes=4), r"its type \(DLPack code 2, 32 bits, 4 lanes\) is not known"),
        (Producer(X, major=2), "DLPack version 2 is not known"),
        (Producer(X.astype(np.float64)), "must have dtype float32, not float64"),
        (Producer(X[:, :2]), r"must have shape \[n, 3\], not \[4, 2\]"),
        (_Old(), "taken before"),
        (_Broken(X), "the buffer was donated"),
    ],
    ids=["device", "lanes", "version", "dtype", "shape", "used capsule", "error"],
)
def test_what_cannot_be_read(affine: dlc.CompiledModel, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        affine(value, B)
    assert "'x'" in str(caught.value)


# --- outputs of the same family


class Tensor:
    """An array of a library with a namespace, as the array API standard has it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return dlpack.exporter(self.array).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __array_namespace__(self) -> type[Namespace]:
        return Namespace


class Namespace:
    """The library."""

    @staticmethod
    def from_dlpack(value: Any) -> Tensor:
        return Tensor(dlpack.from_dlpack(value))


def test_outputs_are_of_the_library_of_the_inputs(affine: dlc.CompiledModel) -> None:
    expected = affine(X, B)
    for inputs in ((Tensor(X), Tensor(B)), (X, Tensor(B)), (Tensor(X), B)):
        got = affine(*inputs)
        assert all(isinstance(y, Tensor) and np.array_equal(y.array, e) for y, e in zip(got, expected))
    torch = pytest.importorskip("torch")
    assert isinstance(affine(Tensor(X), torch.tensor(B))["y"], torch.Tensor)


def test_small_floats_stay_with_their_library() -> None:
    model = dlc.compile(parse("g (bfloat16[n] x) => (bfloat16[n] y)", "y = Neg (x)", opset=22), cache=False)
    array = np.arange(5).astype(ml_dtypes.bfloat16)
    y = model(Tensor(array))["y"]
    assert isinstance(y, Tensor) and y.array.dtype == array.dtype and np.array_equal(y.array, -array)
    del y
    assert not dlpack._given


def test_torch_takes_what_is_exported() -> None:
    torch = pytest.importorskip("torch")
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    tensor = torch.from_dlpack(dlpack.exporter(array))
    assert tensor.dtype is torch.bfloat16 and torch.equal(tensor, torch.arange(6.0).reshape(2, 3).bfloat16())
    array[0, 0] = 7
    assert float(tensor[0, 0]) == 7

"""Calling a model: by position, by name, as onnxruntime is called; outputs, prepared calls, errors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.errors import CancelledError, IndexFault, InputError
from dlc.runtime.call import CancelToken
from tests.api.small_models import affine_inputs, affine_outputs, parse

INPUTS = affine_inputs()
X, B = INPUTS.values()
Y = affine_outputs(X, B)[0]


def test_every_way_to_call(affine: dlc.CompiledModel) -> None:
    for outputs in (
        affine(X, B),
        affine(INPUTS),
        affine(**INPUTS),
        affine(X, b=B),
        affine(dict(reversed(INPUTS.items()))),
    ):
        assert isinstance(outputs, dlc.Outputs) and np.array_equal(outputs["y"], Y)
    (y,) = affine.run(["y"], INPUTS)
    assert np.array_equal(y, Y)
    z, y = affine.run(["z", "y"], INPUTS)
    assert np.array_equal(y, Y) and np.array_equal(z, affine(X, B)["z"])
    assert len(affine.run(None, INPUTS)) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(), "missing inputs: x, b"),
        (lambda m: m(X), "missing input: b"),
        (lambda m: m({"x": X}), "missing input: b"),
        (lambda m: m(X, B, B), "takes 2 inputs, not 3"),
        (lambda m: m(X, B, x=X), "input 'x' is given twice"),
        (lambda m: m(x=X, c=B), "no input 'c'; there are: x, b"),
        (lambda m: m({"x": X, "b": B, "c": B}), "no input 'c'"),
        (lambda m: m({"x": X, 3: B}), "no input '3'"),
        (lambda m: m.run(["w"], INPUTS), "no output 'w'; there are: y, z"),
        (lambda m: m.run(None, {}), "missing inputs: x, b"),
    ],
)
def test_wrong_arguments(affine: dlc.CompiledModel, call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call(affine)
    assert caught.value.code == "input/name"


def test_names_are_data(affine: dlc.CompiledModel) -> None:
    with pytest.raises(InputError) as caught:
        affine({"x": X, "b": B, "\x1b[2J\n": B})
    assert "\x1b" not in str(caught.value) and "\n" not in caught.value.message


def test_outputs_are_a_tuple_with_names(affine: dlc.CompiledModel) -> None:
    outputs = affine(X, B)
    y, z = outputs
    assert len(outputs) == 2 and outputs[0] is y is outputs["y"] and outputs[-1] is z
    assert outputs[:1] == (y,) and outputs.names == ("y", "z") and list(outputs.to_dict()) == ["y", "z"]
    assert [name for name, _ in outputs.items()] == ["y", "z"]
    assert repr(outputs) == "Outputs(y: float32[4, 3], z: float32[4, 3])"
    with pytest.raises(InputError, match="no output 'w'"):
        outputs["w"]
    with pytest.raises(IndexError):
        outputs[2]


def test_the_interface(affine: dlc.CompiledModel) -> None:
    assert [str(spec) for spec in affine.inputs] == ["x: float32['n', 3]", "b: float32[3]"]
    assert affine.outputs[0].shape == ("n", 3) and affine.outputs[0].dtype == np.float32
    assert affine.name == "affine" and "affine" in repr(affine) and "float32['n', 3]" in repr(affine)


def test_a_bad_index_in_the_data(gather: dlc.CompiledModel) -> None:
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert np.array_equal(gather(table, np.array([4, -5]))["y"], table[[4, 0]])
    for bad in (5, -6, 1 << 40, -(1 << 62)):
        with pytest.raises(IndexFault) as caught:
            gather(table, np.array([0, bad]))
        assert caught.value.node == "node_y" and caught.value.code == "input/index"
    assert np.array_equal(gather(table, np.array([1]))["y"], table[[1]])


def test_a_cancelled_call(affine: dlc.CompiledModel) -> None:
    token = CancelToken()
    assert len(affine.run(None, INPUTS, token)) == 2
    token.cancel()
    with pytest.raises(CancelledError):
        affine.run(None, INPUTS, token)
    assert np.array_equal(affine(INPUTS)["y"], Y)


# --- prepared calls


def test_a_prepared_call_follows_its_arrays(affine: dlc.CompiledModel) -> None:
    x, b = X.copy(), B.copy()
    call = affine.prepare({"x": x, "b": b})
    outputs = call()
    assert np.array_equal(outputs["y"], Y)
    x += 1
    assert call() is outputs is call.outputs and np.array_equal(outputs["y"], affine_outputs(x, b)[0])


def test_a_prepared_call_into_given_arrays(affine: dlc.CompiledModel) -> None:
    y = np.full((4, 3), np.nan, np.float32)
    outputs = affine.prepare({"x": X, "b": B}, out={"y": y})()
    assert outputs["y"] is y and np.array_equal(y, Y) and outputs["z"].shape == (4, 3)


def test_two_prepared_calls_do_not_share_memory(affine: dlc.CompiledModel) -> None:
    one, two = affine.prepare({"x": X, "b": B}), affine.prepare({"x": X + 1, "b": B})
    one()
    two()
    assert np.array_equal(one.outputs["y"], Y)
    assert np.array_equal(two.outputs["y"], affine_outputs(X + 1, B)[0])


def _read_only_out() -> np.ndarray:
    array = np.zeros((4, 3), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("feeds", "out", "words"),
    [
        ({"x": X.T.copy().T, "b": B}, {}, "input 'x' must be a contiguous"),
        ({"x": X.astype(">f4"), "b": B}, {}, "input 'x' must be a contiguous"),
        ({"x": X}, {}, "missing input: b"),
        (INPUTS, {"y": np.zeros((4, 4), np.float32)}, r"float32 array of shape \[4, 3\]"),
        (INPUTS, {"y": np.zeros((4, 3))}, "must be a float32 array"),
        (INPUTS, {"y": [[0.0] * 3] * 4}, "must be a float32 array"),
        (INPUTS, {"y": np.zeros((3, 4), np.float32).T}, "contiguous and writable"),
        (INPUTS, {"y": _read_only_out()}, "contiguous and writable"),
        (INPUTS, {"w": np.zeros((4, 3), np.float32)}, "no output 'w'"),
        (INPUTS, {"y": X}, r"out\['y'\] overlaps another array"),
    ],
)
def test_arrays_that_cannot_be_bound(affine: dlc.CompiledModel, feeds: Any, out: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        affine.prepare(feeds, out)


def test_outputs_that_overlap_each_other(affine: dlc.CompiledModel) -> None:
    memory = np.zeros((5, 3), np.float32)
    with pytest.raises(InputError, match=r"out\['z'\] overlaps"):
        affine.prepare(INPUTS, {"y": memory[:4], "z": memory[1:]})
    outputs = affine.prepare(INPUTS, {"y": np.zeros((9, 3), np.float32)[:4]})()
    assert np.array_equal(outputs["y"], Y)


def test_torch_outputs_are_not_copied_for_prepared_calls(affine: dlc.CompiledModel) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    call = affine.prepare({"x": x, "b": B})
    x += 1
    assert np.array_equal(call()["y"], affine_outputs(X + 1, B)[0])
    with pytest.raises(InputError, match="must be a contiguous"):
        affine.prepare({"x": torch.tensor(X.T.copy()).T, "b": B})


# --- closing


def test_a_closed_model_says_so() -> None:
    with dlc.compile(parse("g (float[n] x) => (float[n] y)", "y = Neg (x)"), cache=False) as model:
        x = np.ones(3, np.float32)
        call = model.prepare({"x": x})
        assert model(x)["y"].tolist() == call()["y"].tolist() == [-1, -1, -1]
    for attempt in (
        lambda: model(x),
        lambda: model(np.ones(4, np.float32)),
        call,
        lambda: model.prepare({"x": x}),
    ):
        with pytest.raises(InputError, match="the model is closed"):
            attempt()
    model.close()
    assert model.inputs[0].name == "x" and "kernel" in str(model.report())
    assert pickle.loads(pickle.dumps(model))(x)["y"].tolist() == [-1, -1, -1]

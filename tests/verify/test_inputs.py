"""Random inputs: shapes, symbols, ranges of ids, determinism, and typed errors."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dlc.errors import InputError, ShapeError, UnsupportedError
from dlc.ir.dtypes import DType
from dlc.ir.types import OpenTensorType, SequenceType
from dlc.verify.inputs import (
    InputSpec,
    evaluate_dim,
    index_bounds,
    load_inputs,
    model_inputs,
    of_type,
    random_inputs,
)

EMBED = onnx.parser.parse_model(
    """
    <ir_version: 8, opset_import: ["" : 17]>
    embed (int64[batch, seq] ids, int64[batch, seq] kinds, int64[batch, seq] attention_mask,
           float[batch, seq] x) => (float[batch, seq, d] y) {
        wide = Cast <to = 7> (ids)
        a = Gather (table, wide)
        b = Gather (kind_table, kinds)
        c = Gather (small, ids)
        ab = Add (a, b)
        y = Add (ab, c)
    }
    """
)
EMBED.graph.initializer.extend(
    numpy_helper.from_array(np.zeros((rows, 4), np.float32), name)
    for name, rows in {"table": 7, "kind_table": 2, "small": 5}.items()
)


def spec(name: str, dtype: str, *shape: int | str | None) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


def test_loops_run_a_few_times() -> None:
    """Through a reshape too, whatever the values of other scalars."""
    text = """<ir_version: 8, opset_import: ["": 18]>
    main (float[n] x, int64[1] trip, int64 other) => (float[n] y) {
      count = Squeeze(trip)
      y = Loop (count, "", x) <body = step (int64 i, bool go, float[n] h) => (bool on, float[n] g) {
          on = Identity(go)
          g = Exp(h)
        }>
    }"""
    model = onnx.parser.parse_model(text)
    assert index_bounds(model.graph) == {"trip": (1, 5)}
    trips = {int(random_inputs(model_inputs(model), seed)["trip"][0]) for seed in range(30)}
    assert trips == {1, 2, 3, 4}


def test_ids_stay_within_every_table_that_they_index() -> None:
    assert index_bounds(EMBED.graph) == {"ids": (0, 5), "kinds": (0, 2)}
    values = random_inputs(model_inputs(EMBED), seed=3, bindings={"batch": 8, "seq": 32})
    assert {name: value.shape for name, value in values.items()} == dict.fromkeys(values, (8, 32))
    assert set(np.unique(values["ids"])) == set(range(5)) and set(np.unique(values["kinds"])) == {0, 1}
    assert (values["attention_mask"] == 1).all() and values["x"].std() == pytest.approx(1, abs=0.2)


def test_values_depend_on_seed_and_name_only() -> None:
    specs = [spec("a", "float32", 3), spec("b", "float32", 3)]
    values = random_inputs(specs)
    alone = random_inputs(specs[1:])
    np.testing.assert_array_equal(values["b"], alone["b"])
    assert not np.array_equal(values["a"], values["b"])
    assert not np.array_equal(values["a"], random_inputs(specs, seed=1)["a"])


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        ({}, {"x": (1, 3, 64, 64), "past": (1, 16), "mask": (1, 17)}),
        ({"batch": 4, "p": 3}, {"x": (4, 3, 64, 64), "past": (4, 3), "mask": (4, 4)}),
        ({"x": (2, 3, 8, 9)}, {"x": (2, 3, 8, 9), "past": (2, 16), "mask": (2, 17)}),
        ({"past": (5, 6)}, {"x": (5, 3, 64, 64), "past": (5, 6), "mask": (5, 7)}),
        ({"p + 1": 9}, {"x": (1, 3, 64, 64), "past": (1, 16), "mask": (1, 9)}),
        ({"batch": 0}, {"x": (0, 3, 64, 64), "past": (0, 16), "mask": (0, 17)}),
    ],
)
def test_symbols_are_consistent(given: dict, shapes: dict[str, tuple[int, ...]]) -> None:
    specs = [
        spec("x", "float32", "batch", 3, "h", None),
        spec("past", "float16", "batch", "p"),
        spec("mask", "bool", "batch", "p + 1"),
    ]
    values = random_inputs(specs, bindings=given)
    assert {name: value.shape for name, value in values.items()} == shapes
    assert [value.dtype for value in values.values()] == [item.dtype for item in specs]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"bacth": 1}, InputError, "'bacth'"),
        ({"x": (1, 2)}, ShapeError, "has 1 dims"),
        ({"x": (4,), "y": (5,)}, ShapeError, "both 4 and 5"),
        ({"z": (8,)}, ShapeError, "dim 0 of 'z' is 7"),
    ],
)
def test_unfit_bindings(given: dict, error: type[InputError], words: str) -> None:
    specs = [spec("x", "float32", "n"), spec("y", "float32", "n"), spec("z", "float32", 7)]
    with pytest.raises(error, match=words):
        random_inputs(specs, bindings=given)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n", 6),
        ("n + m", 8),
        ("2*n - m", 10),
        ("n // 4", 1),
        ("n - 7", None),
        ("n / 0", None),
        ("k", None),
        ("__import__('os')", None),
        ("n ** 99", None),
        ("((((", None),
        ("9" * 150, None),
        ("n" * 1000, None),
    ],
)
def test_dim_expressions(text: str, value: int | None) -> None:
    assert evaluate_dim(text, {"n": 6, "m": 2}) == value


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127), ("int64", 0, 1), ("int32", 0, 1)]
)
def test_integers_fill_a_safe_range(dtype: str, low: int, high: int) -> None:
    values = random_inputs([spec("x", dtype, 5000)])["x"]
    assert (values.min(), values.max(), values.dtype) == (low, high, np.dtype(dtype))


def test_sequences_and_optionals() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (seq(float[n,2]) x, optional(seq(int64[])) o, seq(string) s) => (int64 y) "
        "{ y = SequenceLength (x) }"
    )
    specs = model_inputs(model)
    assert [spec.wrapped for spec in specs] == [("sequence",), ("optional", "sequence"), ("sequence",)]
    values = random_inputs(specs, bindings={"n": 3})
    assert [(x.shape, x.dtype) for x in values["x"]] == [((3, 2), np.dtype(np.float32))] * 2
    assert [x.shape for x in values["o"]] == [(1,)] * 2 and isinstance(values["s"][0].item(), str)
    assert not np.array_equal(*values["x"])
    packaged = SequenceType(OpenTensorType(DType.F32, (None, 2)))
    assert of_type("x", packaged) == InputSpec("x", np.dtype(np.float32), (None, 2), None, ("sequence",))


def test_maps_are_refused() -> None:
    key, value = onnx.TensorProto.STRING, onnx.TypeProto()
    value.tensor_type.elem_type = onnx.TensorProto.FLOAT
    info = onnx.ValueInfoProto(name="x", type=onnx.helper.make_map_type_proto(key, value))
    graph = onnx.helper.make_graph([], "g", [info], [])
    with pytest.raises(UnsupportedError, match="'x' is no tensor, sequence or optional"):
        model_inputs(onnx.helper.make_model(graph))


def test_sequences_in_files(tmp_path: Path) -> None:
    arrays = {"s[0]": np.arange(3), "s[1]": np.arange(2), "x[3]": np.ones(1), "y": np.ones(2)}
    np.savez(tmp_path / "a.npz", **arrays)
    loaded = load_inputs(tmp_path / "a.npz")
    assert set(loaded) == {"s", "x[3]", "y"} and [x.tolist() for x in loaded["s"]] == [[0, 1, 2], [0, 1]]


def test_files(tmp_path: Path) -> None:
    good, single, objects = tmp_path / "a.npz", tmp_path / "b.npy", tmp_path / "c.npz"
    np.savez(good, x=np.arange(3), y=np.ones(2))
    np.save(single, np.arange(3))
    np.savez(objects, x=np.array([{}], object))
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 not a zip")
    loaded = load_inputs(good)
    assert {name: value.tolist() for name, value in loaded.items()} == {"x": [0, 1, 2], "y": [1, 1]}
    for path in (single, objects, tmp_path / "d.npz", tmp_path / "missing.npz", tmp_path):
        with pytest.raises(InputError) as caught:
            load_inputs(path)
        assert caught.value.code == "input/file"


def test_an_extent_of_minus_one_is_not_known() -> None:
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [-1, 3])
    graph = onnx.helper.make_graph([], "g", [info], [])
    (found,) = model_inputs(onnx.helper.make_model(graph))
    assert found.shape == (None, 3)
    assert random_inputs([found])["x"].shape == (1, 3)


def test_files_of_numbers_whose_type_numpy_does_not_name(tmp_path: Path) -> None:
    """An .npz file holds bfloat16 as two bytes each; the model says what they are."""
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    path = tmp_path / "x.npz"
    np.savez(path, x=array, y=np.zeros(2, np.float32))
    assert load_inputs(path)["x"].dtype.kind == "V"
    found = load_inputs(path, {"x": array.dtype, "y": np.dtype(np.float64)})
    assert found["x"].dtype == array.dtype and found["x"].tobytes() == array.tobytes()
    assert found["y"].dtype == np.float32
    assert load_inputs(path, {"x": np.dtype(ml_dtypes.float8_e5m2)})["x"].dtype.kind == "V"

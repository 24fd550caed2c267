"""Maps from labels to labels, judged by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from dlc.errors import ModelError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(61)


def check(x: Array, attributes: dict[str, Any], version: int, **more: Any) -> None:
    check_contrib("LabelEncoder", [x], Work.EXACT, 1, attributes, domain=ML, version=version, **more)


def tensors(keys: Array, values: Array, default: Array | None = None) -> dict[str, Any]:
    attributes = {"keys_tensor": keys, "values_tensor": values}
    if default is not None:
        attributes["default_tensor"] = default
    return {name: numpy_helper.from_array(array, name) for name, array in attributes.items()}


@pytest.mark.parametrize("count", [1, 5, 16, 17, 300])
@pytest.mark.parametrize("spread", [1, 3, 10**6])
def test_integers_to_floats(count: int, spread: int) -> None:
    keys = spread * rng.permutation(count) - 7
    attributes = {
        "keys_int64s": keys.tolist(),
        "values_floats": rng.random(count).astype(np.float32).tolist(),
    }
    x = np.concatenate([keys, keys + 1, [2**63 - 1, -(2**63), 0]]).reshape(-1, 1)
    check(x, {**attributes, "default_float": -2.5}, 2, symbolic=count == 5)
    check(x, attributes, 2)


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("kinds", ["floats int64s", "floats floats", "int64s int64s"])
@pytest.mark.parametrize("version", [2, 4])
def test_lists(count: int, kinds: str, version: int) -> None:
    source, target = kinds.split()
    columns = {
        "floats": rng.standard_normal(count).astype(np.float32),
        "int64s": rng.integers(-(10**9), 10**9, count),
    }
    keys = columns[source]
    attributes = {f"keys_{source}": keys.tolist(), f"values_{target}": columns[target].tolist()}
    x = np.concatenate([keys, keys[:3] + 1]).reshape(1, -1)
    check(x, attributes, version)


@pytest.mark.parametrize("count", [3, 30])
def test_nan_is_a_key_since_version_4(count: int) -> None:
    keys = [*rng.standard_normal(count).astype(np.float32).tolist(), np.nan, 0.0]
    x = np.array([np.nan, *keys, 5.0, -0.0], np.float32)
    attributes = {"keys_floats": keys, "values_int64s": list(range(count + 2))}
    check(x, attributes, 4)


@pytest.mark.parametrize("count", [4, 20])
def test_the_first_of_equal_keys_counts(count: int) -> None:
    keys = rng.integers(0, 3 + count // 4, count)
    check(np.arange(-2, count), {"keys_int64s": keys.tolist(), "values_int64s": list(range(count))}, 2)
    check(
        np.arange(-2, count), {"keys_int64s": (9999 * keys).tolist(), "values_int64s": list(range(count))}, 2
    )


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("count", [3, 50])
def test_tensors(count: int, default: bool) -> None:
    keys, values = rng.permutation(count).astype(np.float64) / 3, rng.random(count)
    x = np.concatenate([keys, [0.1, np.inf, -np.inf]])
    if default:
        check(x, tensors(keys, values, np.array([7.5])), 4)
    keys, integers = rng.permutation(count), rng.integers(-9, 9, count)
    attributes = tensors(keys, integers, np.array([2**40]) if default else None)
    check(np.arange(-3, count + 3), attributes, 4)


@pytest.mark.parametrize("keys_type", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize("values_type", [np.int16, np.int32, np.float64])
def test_narrow_tensors(keys_type: Any, values_type: Any) -> None:
    """onnxruntime takes few of these types."""
    keys, values = np.array([5, -3, 32767, 0], keys_type), np.array([4, 3, 2, 1], values_type)
    x = np.array([[0, 1], [5, -3], [32767, -32768]], keys_type)
    expected = np.array([[1, -1], [4, 3], [2, -1]], values_type)
    check(x, tensors(keys, values, np.array([-1], values_type)), 4, expected=[expected])


@pytest.mark.parametrize(
    ("attributes", "version", "message"),
    [
        ({"keys_int64s": [1, 2], "values_floats": [1.0]}, 2, "2 keys and 1 values"),
        ({"keys_int64s": [1, 2]}, 2, "one of values_strings, values_int64s, values_floats"),
        ({"keys_int64s": [1], "keys_floats": [1.0], "values_floats": [1.0]}, 2, "one of keys_strings"),
        ({"keys_floats": [1.0], "values_floats": [1.0]}, 2, "must be of one of the types f32, but is i64"),
    ],
)
def test_invalid_models(attributes: dict[str, Any], version: int, message: str) -> None:
    model = one_node_model("LabelEncoder", [np.arange(3)], 1, attributes, domain=ML)
    model.opset_import[1].version = version
    with pytest.raises(ModelError, match=message):
        import_model(model)

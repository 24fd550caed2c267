"""Scaling, imputation, encoding and choosing of features, judged by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc
from dlc.errors import ModelError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

TYPES = [np.float32, np.float64, np.int32, np.int64]
rng = np.random.default_rng(51)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    return (3 * rng.standard_normal(shape)).astype(dtype)


def check(
    op_type: str, inputs: list[Array], attributes: dict[str, Any], work: Work = Work.EXACT, **more: Any
) -> None:
    check_contrib(op_type, inputs, work, 1, attributes, domain=ML, **more)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(5, 4), (4,), (0, 4)])
@pytest.mark.parametrize("each", [False, True])
def test_scaler(dtype: Any, shape: tuple[int, ...], each: bool) -> None:
    count = 4 if each else 1
    attributes = {"offset": draw(count).tolist(), "scale": draw(count).tolist()}
    check("Scaler", [draw(*shape, dtype=dtype)], attributes, Work.POINTWISE, symbolic=len(shape) == 2)


def test_scaler_without_offset_or_scale() -> None:
    """As the standard allows; onnxruntime wants both."""
    x = draw(3, 2)
    check("Scaler", [x], {"scale": [2.0, -4.0]}, expected=[x * np.float32([2, -4])])
    check("Scaler", [x], {"offset": [0.5]}, Work.POINTWISE, expected=[x - np.float32(0.5)])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2", None])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(6, 5), (5,), (0, 5)])
def test_normalizer(norm: str | None, dtype: Any, shape: tuple[int, ...]) -> None:
    x = draw(*shape, dtype=dtype)
    if shape == (6, 5):
        x[2] = 0
        x[3, 1:] = 0
    check("Normalizer", [x], {"norm": norm}, Work.REDUCTION, symbolic=shape == (6, 5))


@pytest.mark.parametrize("threshold", [None, 0.5, -1.0, float("inf")])
@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (0, 2)])
def test_binarizer(threshold: float | None, shape: tuple[int, ...]) -> None:
    x = np.where(rng.random(shape) < 0.2, 0.5, draw(*shape)).astype(np.float32)
    check("Binarizer", [x], {"threshold": threshold}, symbolic=len(shape) == 2)


def test_nan_is_not_greater_than_the_threshold() -> None:
    """onnxruntime refuses it."""
    check("Binarizer", [np.array([np.nan, 1], np.float32)], {}, expected=[np.array([0, 1], np.float32)])


@pytest.mark.parametrize("dtype", TYPES[1:])
@pytest.mark.parametrize("threshold", [0.5, -1.0])
def test_types_of_binarizer(dtype: Any, threshold: float) -> None:
    """onnxruntime takes f32 only."""
    x = draw(3, 4, dtype=dtype)
    check("Binarizer", [x], {"threshold": threshold}, expected=[(x > threshold).astype(dtype)])


@pytest.mark.parametrize("replaced", [0.0, np.nan, 2.5])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("shape", [(6, 3), (3,), (0, 3)])
def test_imputer_of_floats(replaced: float, each: bool, shape: tuple[int, ...]) -> None:
    x = rng.choice(np.array([0, -0.0, np.nan, 2.5, 1, -7, np.inf], np.float32), shape)
    values = [1.5, -2.5, np.nan] if each else [0.25]
    attributes = {"imputed_value_floats": values, "replaced_value_float": float(replaced)}
    check("Imputer", [x], attributes, symbolic=len(shape) == 2)
    wide = x.astype(np.float64)
    missing = np.isnan(wide) if np.isnan(replaced) else wide == replaced
    # onnxruntime does not take f64.
    check("Imputer", [wide], attributes, expected=[np.where(missing, values, wide)])


@pytest.mark.parametrize("replaced", [0, -1, 2**40])
@pytest.mark.parametrize("each", [False, True])
def test_imputer_of_integers(replaced: int, each: bool) -> None:
    x = rng.choice(np.array([0, -1, 2**40, 2**40 + 1, 5]), (7, 3))
    attributes = {"imputed_value_int64s": [8, 9, 10] if each else [11], "replaced_value_int64": replaced}
    check("Imputer", [x], attributes)
    if replaced < 2**31:
        narrow = x.astype(np.int32)
        expected = np.where(narrow == replaced, attributes["imputed_value_int64s"], narrow)
        check("Imputer", [narrow], attributes, expected=[expected.astype(np.int32)])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(5,), (4, 3), (0, 3)])
@pytest.mark.parametrize("categories", [[0, 1, 2], [7, -3, 1, 0], [5]])
def test_one_hot_encoder(dtype: Any, shape: tuple[int, ...], categories: list[int]) -> None:
    x = rng.choice(np.array([0, 1, 2, 7, -3, 5, 1.75, -3.5]), shape).astype(dtype)
    attributes, options = {"cats_int64s": categories}, {"symbolic": len(shape) == 2}
    if dtype is np.int32:
        # onnxruntime has no kernel for i32.
        options["expected"] = [(x[..., None] == categories).astype(np.float32)]
    check("OneHotEncoder", [x], attributes, **options)


def test_one_hot_encoder_with_equal_categories() -> None:
    x = np.array([[1, 2], [3, 9]])
    check("OneHotEncoder", [x], {"cats_int64s": [1, 2, 1, 3, 2]})


def test_one_hot_encoder_refuses_unknown_categories() -> None:
    x = np.array([[4, 6], [6, 5]])
    attributes = {"cats_int64s": [4, 5, 6], "zeros": 0}
    check("OneHotEncoder", [x], attributes)
    model = one_node_model("OneHotEncoder", [x], 1, attributes, domain=ML)
    with (
        dlc.compile(model, cache=False, strict=True) as compiled,
        pytest.raises(dlc.Error, match="OneHotEncoder"),
    ):
        compiled.run(None, {"x0": x + 1})


@pytest.mark.parametrize("sizes", [[3, 2, 4], [2, 2, 2], [5, 3, 8], [1, 0, 6]])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [1, 6])
def test_feature_vectorizer(sizes: list[int], dtype: Any, rows: int) -> None:
    inputs = [draw(rows, columns, dtype=dtype) for columns in (3, 2, 4)]
    check("FeatureVectorizer", inputs, {"inputdimensions": sizes})


def test_feature_vectorizer_of_no_rows() -> None:
    """onnxruntime reads what is not there."""
    expected = [np.zeros((0, 6), np.float32)]
    check("FeatureVectorizer", [draw(0, 3), draw(0, 2)], {"inputdimensions": [3, 3]}, expected=expected)


def test_feature_vectorizer_of_vectors_and_tensors() -> None:
    check("FeatureVectorizer", [draw(3), draw(2)], {"inputdimensions": [3, 4]})
    check("FeatureVectorizer", [draw(4, 2, 3), draw(4, 5)], {"inputdimensions": [6, 5]})


def test_feature_vectorizer_without_dimensions_takes_all() -> None:
    """onnxruntime wants them."""
    x, y = draw(4, 2), draw(4, 3)
    check("FeatureVectorizer", [x, y], {}, expected=[np.concatenate([x, y], axis=1)])


def test_feature_vectorizer_of_symbolic_widths() -> None:
    inputs = [draw(3, 2), draw(3, 5)]
    check("FeatureVectorizer", inputs, {"inputdimensions": [4, 3]}, symbolic=True)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (0, 6)])
@pytest.mark.parametrize("positions", [[0], [5, 0, 0, 2], [[1, 2], [3, 3]]])
@pytest.mark.parametrize("constant", [False, True])
def test_array_feature_extractor(
    dtype: Any, shape: tuple[int, ...], positions: list[Any], constant: bool
) -> None:
    inputs = [draw(*shape, dtype=dtype), np.array(positions)]
    options: dict[str, Any] = {"constants": (1,)} if constant else {"symbolic": len(shape) == 2}
    check("ArrayFeatureExtractor", inputs, {}, **options)


@pytest.mark.parametrize(
    ("op_type", "attributes", "message"),
    [
        ("Scaler", {"offset": [1.0, 2.0], "scale": [1.0]}, "numbers of features and of offset must be equal"),
        ("Normalizer", {"norm": "L3"}, "'L3' is none of MAX, L1, L2"),
        ("Imputer", {}, "no imputed value"),
        ("Imputer", {"imputed_value_int64s": [1]}, "no imputed value"),
        ("Imputer", {"imputed_value_floats": [1.0, 2.0]}, "features and of imputed values must be equal"),
        ("OneHotEncoder", {}, "no categories for f32"),
        ("FeatureVectorizer", {"inputdimensions": [1, 2]}, "none of 1 operands"),
        ("FeatureVectorizer", {"inputdimensions": [-1]}, "none of 1 operands"),
    ],
)
def test_invalid_models(op_type: str, attributes: dict[str, Any], message: str) -> None:
    model = one_node_model(op_type, [draw(4, 3)], 1, attributes, domain=ML)
    with pytest.raises(ModelError, match=message):
        import_model(model)

"""Whole pipelines of scikit-learn as skl2onnx writes them, judged by onnxruntime."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.verify.compare import compare_values
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.onnx_cases import Array, run_onnxruntime

REASON = "needs scikit-learn and skl2onnx, which are in the extra 'test'"
sklearn = pytest.importorskip("sklearn", reason=REASON)
skl2onnx = pytest.importorskip("skl2onnx", reason=REASON)

from sklearn import (  # noqa: E402
    datasets,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    multiclass,
    naive_bayes,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)


@functools.cache
def digits() -> tuple[Array, Array]:
    x, y = datasets.load_digits(return_X_y=True)
    return x[:400].astype(np.float32), y[:400]


@functools.cache
def iris() -> tuple[Array, Array]:
    x, y = datasets.load_iris(return_X_y=True)
    return x.astype(np.float32), y


@functools.cache
def diabetes() -> tuple[Array, Array]:
    x, y = datasets.load_diabetes(return_X_y=True)
    return x.astype(np.float32), y


def two_flowers() -> tuple[Array, Array]:
    x, y = iris()
    return x, (y > 0).astype(np.int64)


def with_gaps() -> tuple[Array, Array]:
    x, y = iris()
    return np.where(np.random.default_rng(0).random(x.shape) < 0.1, np.nan, x).astype(np.float32), y


#: What scikit-learn says about models of so few steps, and about parameters to come.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Data = Callable[[], tuple[Array, Array]]
LOGISTIC = functools.partial(linear_model.LogisticRegression, max_iter=300)

CLASSIFIERS: dict[str, tuple[Callable[[], Any], Data]] = {
    "random forest": (lambda: ensemble.RandomForestClassifier(15, random_state=0), digits),
    "random forest of two": (lambda: ensemble.RandomForestClassifier(15, random_state=0), two_flowers),
    "extra trees": (lambda: ensemble.ExtraTreesClassifier(9, random_state=0), iris),
    "boosting": (lambda: ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), iris),
    "boosting of two": (lambda: ensemble.GradientBoostingClassifier(n_estimators=10), two_flowers),
    "tree": (lambda: tree.DecisionTreeClassifier(random_state=0), iris),
    "logistic": (LOGISTIC, iris),
    "logistic of two": (LOGISTIC, two_flowers),
    "one against the rest": (lambda: multiclass.OneVsRestClassifier(LOGISTIC()), iris),
    "linear machine": (lambda: svm.LinearSVC(random_state=0), iris),
    "machine": (lambda: svm.SVC(), iris),
    "machine of two": (lambda: svm.SVC(kernel="poly"), two_flowers),
    "machine with probabilities": (lambda: svm.SVC(probability=True, random_state=0), iris),
    "naive": (lambda: naive_bayes.GaussianNB(), iris),
    "network": (lambda: neural_network.MLPClassifier((8,), max_iter=50, random_state=0), iris),
    "scaled": (lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), LOGISTIC()), digits),
    "imputed": (
        lambda: pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.Normalizer("l2"), LOGISTIC()),
        with_gaps,
    ),
    "selected": (
        lambda: pipeline.make_pipeline(
            feature_selection.SelectKBest(k=2), preprocessing.MinMaxScaler(), LOGISTIC()
        ),
        iris,
    ),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "random forest": lambda: ensemble.RandomForestRegressor(15, random_state=0),
    "boosting": lambda: ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
    "ridge": lambda: linear_model.Ridge(),
    "machine": lambda: svm.SVR(),
    "scaled machine": lambda: pipeline.make_pipeline(preprocessing.RobustScaler(), svm.SVR(kernel="sigmoid")),
}
TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "one hot": lambda: preprocessing.OneHotEncoder(handle_unknown="ignore"),
    "ordinal": lambda: preprocessing.OrdinalEncoder(),
    "bins": lambda: preprocessing.KBinsDiscretizer(
        4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"
    ),
    "binarizer": lambda: preprocessing.Binarizer(threshold=2.0),
}


def check(model: Any, x: Array, options: dict[str, Any], strict: bool = True) -> list[Any]:
    """Compare a fitted model in all its outputs with onnxruntime; returns what the compiled model gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = skl2onnx.to_onnx(
            model,
            x[:1],
            target_opset={"": 21, "ai.onnx.ml": 3},
            options={id(model): options} if options else None,
        )
    feeds = {"X": x}
    expected = run_onnxruntime(proto, feeds)
    assert expected is not None
    with dlc.compile(proto, strict=strict, cache=False) as compiled:
        results = compiled.run(None, feeds)
    for index, (got, want) in enumerate(zip(results, expected, strict=True)):
        maps = isinstance(got, list)
        limits = tolerance(np.dtype(np.float32) if maps else want.dtype, Work.MODEL)
        for found in compare_values(f"result {index}", got, want.tolist() if maps else want, limits):
            assert found.agrees, str(found)
    return list(results)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str) -> None:
    make, data = CLASSIFIERS[name]
    x, y = data()
    model = make().fit(x, y)
    label, _ = check(model, x, {"zipmap": False} if name != "linear machine" else {})
    assert np.mean(label == model.predict(x)) > 0.98


@pytest.mark.parametrize("name", ["random forest", "logistic", "machine with probabilities"])
def test_classifiers_of_strings_with_maps(name: str) -> None:
    """As skl2onnx converts classifiers if not told otherwise."""
    make, data = CLASSIFIERS[name]
    x, y = data()
    words = np.array([f"class {label}" for label in range(10)])[y]
    model = make().fit(x, words)
    label, probabilities = check(model, x, {}, strict=False)
    assert np.mean(label == model.predict(x)) > 0.98
    assert list(probabilities[0]) == list(model.classes_)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name: str) -> None:
    x, y = diabetes()
    model = REGRESSORS[name]().fit(x, y)
    (result,) = check(model, x, {})
    np.testing.assert_allclose(np.reshape(result, -1), model.predict(x), rtol=1e-3)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    x = np.floor(iris()[0])
    model = TRANSFORMERS[name]().fit(x)
    (result,) = check(model, x, {})
    expected = model.transform(x)
    np.testing.assert_array_equal(result, expected.toarray() if hasattr(expected, "toarray") else expected)

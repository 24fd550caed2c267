"""Labels that are strings, and maps: what the host does at run time, judged by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlc
from dlc.errors import InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from dlc.verify.compare import compare_values
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.forests import Growth, features, grow
from tests.helpers.onnx_cases import Array, element_type, one_node_model

rng = np.random.default_rng(71)
WORDS = np.array([["a", "bc"], ["", "d"], ["é", "bc"]], object)


def run(model: onnx.ModelProto, feeds: dict[str, Any], hosts: set[str]) -> list[Any]:
    """Compare the compiled model with onnxruntime; only the IR operators `hosts` may run on the host."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, feeds)
    node = model.graph.node[0].op_type
    with dlc.compile(model, cache=False) as compiled:
        results = list(compiled.run(None, feeds))
        assert list(compiled.run(None, feeds)[:1])  # a second run finds the table of objects as the first did
        kept = {report.operator for report in compiled.report().hosts}
    assert kept == hosts, node
    for index, (got, want) in enumerate(zip(results, expected, strict=True)):
        if isinstance(want, np.ndarray) and want.dtype.kind in "OUS":
            assert got.shape == want.shape and got.tolist() == want.tolist()
            continue
        limits = tolerance(np.dtype(np.float32), Work.REDUCTION)
        for found in compare_values(f"result {index}", got, want, limits):
            assert found.agrees, str(found)
    return results


def node_model(
    op_type: str, inputs: list[Array], attributes: dict[str, Any], version: int = 1, **more: Any
) -> Any:
    outputs = 2 if op_type.endswith("Classifier") else 1
    model = one_node_model(op_type, inputs, outputs, attributes, domain=ML, **more)
    model.opset_import[1].version = version
    return model


def check(
    op_type: str,
    x: Array,
    attributes: dict[str, Any],
    hosts: set[str],
    version: int = 1,
    symbolic: bool = False,
) -> None:
    run(node_model(op_type, [x], attributes, version, symbolic=symbolic), {"x0": x}, hosts)


# --- labels


@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("classes", [2, 3])
def test_trees(rows: int, classes: int) -> None:
    """The positions of the labels are computed natively; only these are looked up."""
    growth = Growth(trees=5, targets=1 if classes == 2 else 3, votes="all", positive=True)
    labels = {"classlabels_strings": ["no", "yes", "perhaps"][:classes]}
    attributes = labels | grow(growth, 1, "class")
    check(
        "TreeEnsembleClassifier",
        features(growth, rows, np.float32, 2),
        attributes,
        {"StringAt"},
        3,
        symbolic=True,
    )


@pytest.mark.parametrize("scores", [1, 2, 4])
def test_linear_models(scores: int) -> None:
    attributes = {"coefficients": rng.standard_normal(3 * scores).tolist(), "intercepts": [0.25] * scores}
    attributes["classlabels_strings"] = ["w", "x", "y", "z"][: max(scores, 2)]
    check("LinearClassifier", rng.standard_normal((7, 3)).astype(np.float32), attributes, {"StringAt"})


def test_machines() -> None:
    attributes = {
        "kernel_type": "RBF",
        "kernel_params": [0.5, 0.0, 0.0],
        "vectors_per_class": [2, 1, 2],
        "support_vectors": rng.standard_normal(15).tolist(),
        "coefficients": rng.standard_normal(10).tolist(),
        "rho": [0.1, -0.1, 0.2],
        "classlabels_strings": ["u", "v", "w"],
    }
    check("SVMClassifier", rng.standard_normal((9, 3)).astype(np.float32), attributes, {"StringAt"})


# --- encoders


@pytest.mark.parametrize("symbolic", [False, True])
def test_strings_to_numbers(symbolic: bool) -> None:
    keys = ["bc", "a", "é", "bc"]
    for values, default in (
        (("values_int64s", [5, 6, 7, 8]), ("default_int64", 9)),
        (("values_floats", [1.5] * 4), None),
    ):
        attributes = dict([("keys_strings", keys), values] + ([default] if default else []))
        for version in (2, 4):
            check("LabelEncoder", WORDS, attributes, {"StringIndex"}, version, symbolic)
    check("LabelEncoder", WORDS, {"classes_strings": ["a", "d"]}, {"StringIndex"}, 1, symbolic)
    attributes = {"cats_strings": ["a", "d"], "cats_int64s": [-4, 4], "default_int64": 0}
    check("CategoryMapper", WORDS, attributes, {"StringIndex"}, 1, symbolic)


@pytest.mark.parametrize("count", [2, 40])
def test_numbers_to_strings(count: int) -> None:
    keys = (rng.permutation(count) * 10**4).tolist()
    values = [f"<{key}>" for key in keys]
    x = np.array([*keys, -1, 7]).reshape(-1, 2)
    for version in (2, 4):
        attributes = {"keys_int64s": keys, "values_strings": values}
        check("LabelEncoder", x, attributes, {"StringAt"}, version)
    check("LabelEncoder", np.arange(-1, 4), {"classes_strings": ["p", "q"]}, {"StringAt"}, 1)
    attributes = {"cats_strings": values, "cats_int64s": keys, "default_string": "?"}
    check("CategoryMapper", x, attributes, {"StringAt"})
    floats = {"keys_floats": [0.5, np.nan, -1.0], "values_strings": ["half", "none", "minus"]}
    check("LabelEncoder", np.array([np.nan, 0.5, 0], np.float32), floats, {"StringAt"}, 4)


def test_strings_to_strings() -> None:
    attributes = {"keys_strings": ["a", "d"], "values_strings": ["A", "D"], "default_string": "-"}
    check("LabelEncoder", WORDS, attributes, {"StringIndex", "StringAt"}, 2, True)


def test_tensors_of_strings() -> None:
    keys, values = np.array(["a", "d"], object), np.array([1, 2])
    tensors = {"keys_tensor": keys, "values_tensor": values, "default_tensor": np.array([-3])}
    attributes = {name: numpy_helper.from_array(array, name) for name, array in tensors.items()}
    check("LabelEncoder", WORDS, attributes, {"StringIndex"}, 4)


def test_one_hot_and_columns() -> None:
    check("OneHotEncoder", WORDS, {"cats_strings": ["d", "a", "bc", "a"]}, {"StringIndex"}, symbolic=True)
    model = node_model("ArrayFeatureExtractor", [WORDS, np.array([1, 0, 1])], {}, constants=(1,))
    run(model, {"x0": WORDS}, {"Gather"})
    model = node_model("OneHotEncoder", [WORDS], {"cats_strings": ["a", "bc"], "zeros": 0})
    with dlc.compile(model, cache=False) as compiled, pytest.raises(dlc.Error, match="OneHotEncoder"):
        compiled.run(None, {"x0": WORDS})


def test_strict_refuses_what_the_host_does() -> None:
    model = node_model("LabelEncoder", [WORDS], {"keys_strings": ["a"], "values_int64s": [1]}, 2)
    with pytest.raises(UnsupportedError, match="LabelEncoder"):
        dlc.compile(model, cache=False, strict=True)


# --- maps


@pytest.mark.parametrize(
    "keys",
    [
        {"classlabels_int64s": [3, -1, 5]},
        {"classlabels_strings": ["c", "a", ""]},
        {"classlabels_int64s": [1, 1, 2]},
    ],
)
@pytest.mark.parametrize("shape", [(4, 3), (0, 3), (3,)])
def test_zip_map(keys: dict[str, Any], shape: tuple[int, ...]) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    check("ZipMap", x, keys, {"ZipMap"}, symbolic=len(shape) == 2)


def test_the_types_of_maps_are_onnxruntimes() -> None:
    import onnxruntime

    model = node_model(
        "ZipMap", [np.ones((2, 1), np.float32)], {"classlabels_strings": ["a"]}
    ).SerializeToString()
    ours, theirs = dlc.InferenceSession(model), onnxruntime.InferenceSession(model)
    assert [out.type for out in ours.get_outputs()] == [out.type for out in theirs.get_outputs()]
    x = {"x0": np.array([[0.5], [2]], np.float32)}
    assert ours.run(None, x) == theirs.run(None, x) == [[{"a": 0.5}, {"a": 2.0}]]


def map_model(op_type: str, key: int, value: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    """A model of one node whose operand is a map."""
    type_ = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
    node = helper.make_node(op_type, ["x"], ["y"], domain=ML, **attributes)
    graph = helper.make_graph(
        [node], "maps", [helper.make_value_info("x", type_)], [onnx.ValueInfoProto(name="y")]
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


INT, FLOAT, DOUBLE, STRING = TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING


def compiled(model: onnx.ModelProto, x: dict[Any, Any]) -> Array:
    """What the compiled model gives for a map that onnxruntime's interface to Python does not take."""
    with dlc.compile(model, cache=False) as model_:
        (result,) = model_.run(None, {"x": x})
        array: Array = np.asarray(result)
        return array


@pytest.mark.parametrize(
    ("key", "value", "x", "expected"),
    [
        (STRING, FLOAT, {"b": 0.1, "z": 3.0}, None),
        (STRING, FLOAT, {}, [0.0, 0.0, 0.0, 0.0]),
        (INT, FLOAT, {2: 0.5, 7: 1.5}, None),
        (STRING, DOUBLE, {"b": 0.1, "a": 2.0, "c": -1.0}, [2.0, 0.1, -1.0, 0.1]),
        (STRING, INT, {"c": 2**40}, [0, 0, 2**40, 0]),
        (STRING, INT, {}, [0, 0, 0, 0]),
        (INT, DOUBLE, {5: 0.1}, [0.0, 0.1, 0.0]),
        (INT, STRING, {5: "five", 2: "two"}, ["", "five", "two"]),
    ],
)
def test_dict_vectorizer(key: int, value: int, x: dict[Any, Any], expected: list[Any] | None) -> None:
    vocabulary = (
        {"string_vocabulary": ["a", "b", "c", "b"]} if key == STRING else {"int64_vocabulary": [7, 5, 2]}
    )
    model = map_model("DictVectorizer", key, value, vocabulary)
    result = run(model, {"x": x}, {"DictVectorizer"})[0] if expected is None else compiled(model, x)
    assert element_type(result) == value
    assert expected is None or result.tolist() == [expected]


@pytest.mark.parametrize("to", ["TO_FLOAT", "TO_INT64", None])
@pytest.mark.parametrize("form", [{}, {"map_form": "SPARSE", "max_map": 4}, {"map_form": "SPARSE"}])
def test_cast_map(to: str | None, form: dict[str, Any]) -> None:
    attributes = form | ({"cast_to": to} if to else {})
    run(map_model("CastMap", INT, FLOAT, attributes), {"x": {3: 1.5, 0: -2.0}}, {"CastMap"})


def test_cast_map_of_strings() -> None:
    x = {3: "15", 0: "-2", 9: "0"}
    for to, numbers in (
        ("TO_FLOAT", [-2.0, 15.0, 0.0]),
        ("TO_INT64", [-2, 15, 0]),
        ("TO_STRING", ["-2", "15", "0"]),
    ):
        assert compiled(map_model("CastMap", INT, STRING, {"cast_to": to}), x).tolist() == [numbers]
    sparse = {"cast_to": "TO_STRING", "map_form": "SPARSE", "max_map": 4}
    assert compiled(map_model("CastMap", INT, STRING, sparse), x).tolist() == [["-2", "0.f", "0.f", "15"]]


def test_numbers_of_maps_become_the_text_of_cast() -> None:
    """onnxruntime writes six digits behind the point."""
    result = compiled(map_model("CastMap", INT, FLOAT, {"cast_to": "TO_STRING"}), {3: 1.5, 0: -0.25})
    assert result.tolist() == [["-0.25", "1.5"]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0], "must be a dictionary, not list"),
        ({"1": 1.0}, "a dictionary with i64 in that place, not str"),
        ({1: "one"}, "a dictionary with f32 in that place, not str"),
        ({True: 1.0}, "not bool"),
        ({-1: 1.0}, "-1, a negative number"),
    ],
)
def test_unfit_maps(x: Any, message: str) -> None:
    model = map_model("CastMap", INT, FLOAT, {"map_form": "SPARSE", "max_map": 3})
    with dlc.compile(model, cache=False) as compiled, pytest.raises(InputError, match=message):
        compiled.run(None, {"x": x})


def test_numbers_beyond_the_type_are_no_values_of_a_map() -> None:
    model = map_model("DictVectorizer", STRING, INT, {"string_vocabulary": ["a"]})
    with dlc.compile(model, cache=False) as compiled, pytest.raises(InputError, match="dictionary with i64"):
        compiled.run(None, {"x": {"a": 1 << 70}})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            node_model("ZipMap", [np.ones((2, 3), np.float32)], {"classlabels_int64s": [1, 2]}),
            "columns and of labels",
        ),
        (node_model("ZipMap", [np.ones((2, 3), np.float32)], {}), "one of 'classlabels_int64s' and"),
        (
            map_model("DictVectorizer", INT, FLOAT, {"string_vocabulary": ["a"]}),
            "the vocabulary is none of a map",
        ),
        (map_model("CastMap", INT, FLOAT, {"cast_to": "TO_BOOL"}), "cannot be 'TO_BOOL' and 'DENSE'"),
        (map_model("CastMap", STRING, FLOAT, {}), "are no integers"),
    ],
)
def test_invalid_models(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(model)

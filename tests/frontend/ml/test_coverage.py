"""Every version of every operator of ai.onnx.ml has an importer, and no attribute is ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper

from dlc.frontend.onnx import context, registry
from dlc.frontend.onnx.extension import ML
from dlc.frontend.onnx.importer import import_model
from tests.helpers.forests import Growth, as_version_5, grow

#: Attributes that say nothing about the results.
WITHOUT_MEANING = {"nodes_hitrates", "nodes_hitrates_as_tensor", "multi_class"}

MATRIX, TEXTS, CODES = (helper.make_tensor_type_proto(kind, [3, 2]) for kind in (1, 8, 7))
MAP = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
NAMED = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
TREES, VOTES = (grow(Growth(trees=1, features=2), 1, prefix) for prefix in ("target", "class"))
NUMBERS, NAMES = {"classlabels_ints": [0, 1]}, {"classlabels_strings": ["a", "b"]}
MACHINE = {"kernel_type": "RBF", "kernel_params": [1.0, 0.0, 0.0], "support_vectors": [1.0] * 4, "rho": [0.0]}
PAIRS = {"vectors_per_class": [1, 1], "coefficients": [1.0, -1.0], "prob_a": [-1.0], "prob_b": [0.0]}

#: Nodes of each operator, the newest version: the types of the operands and the attributes.
NODES: dict[str, list[tuple[list[onnx.TypeProto], dict[str, Any]]]] = {
    "ArrayFeatureExtractor": [([MATRIX, CODES], {})],
    "Binarizer": [([MATRIX], {})],
    "CastMap": [([MAP], {"map_form": "SPARSE"})],
    "CategoryMapper": [([kind], {"cats_strings": ["a"], "cats_int64s": [1]}) for kind in (TEXTS, CODES)],
    "DictVectorizer": [([MAP], {"int64_vocabulary": [1]}), ([NAMED], {"string_vocabulary": ["a"]})],
    "FeatureVectorizer": [([MATRIX, MATRIX], {"inputdimensions": [2, 2]})],
    "Imputer": [([MATRIX], {"imputed_value_floats": [1.0]}), ([CODES], {"imputed_value_int64s": [1]})],
    "LabelEncoder": [
        ([CODES], {"keys_int64s": [1], "values_strings": ["b"]}),
        ([CODES], {"keys_int64s": [1], "values_floats": [1.0]}),
        ([TEXTS], {"keys_strings": ["a"], "values_int64s": [1]}),
        ([MATRIX], {"keys_floats": [1.0], "values_int64s": [1]}),
        (
            [CODES],
            {name: helper.make_tensor(name, 7, [1], [1]) for name in ("keys_tensor", "values_tensor")}
            | {"default_tensor": helper.make_tensor("default_tensor", 7, [1], [1])},
        ),
    ],
    "LinearClassifier": [([MATRIX], {"coefficients": [1.0] * 4, "intercepts": [1.0] * 2, **NAMES})],
    "LinearRegressor": [([MATRIX], {"coefficients": [1.0] * 2})],
    "Normalizer": [([MATRIX], {})],
    "OneHotEncoder": [([CODES], {"cats_int64s": [1]}), ([TEXTS], {"cats_strings": ["a"]})],
    "SVMClassifier": [([MATRIX], {**MACHINE, **PAIRS, **NUMBERS})],
    "SVMRegressor": [([MATRIX], {**MACHINE, "coefficients": [1.0] * 2, "n_supports": 2})],
    "Scaler": [([MATRIX], {})],
    "TreeEnsemble": [([MATRIX], {**as_version_5(TREES, np.float32, {}), "n_targets": 1})],
    "TreeEnsembleClassifier": [([MATRIX], {**VOTES, "classlabels_int64s": [0, 1]})],
    "TreeEnsembleRegressor": [([MATRIX], {**TREES, "n_targets": 1})],
    "ZipMap": [([MATRIX], {"classlabels_strings": ["a", "b"]})],
}


def schemas() -> list[Any]:
    return [schema for schema in defs.get_all_schemas_with_history() if schema.domain == ML]


def test_every_version_has_an_importer() -> None:
    for schema in schemas():
        assert registry.find(ML, schema.name, schema.since_version) is not None, schema.name
    assert {schema.name for schema in schemas()} == NODES.keys()


class _Watched(dict[str, Any]):
    """Attributes that note which of them were asked for."""

    def __init__(self, content: dict[str, Any], read: set[str]) -> None:
        super().__init__(content)
        self.read = read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)


@pytest.mark.parametrize("name", NODES)
def test_no_attribute_is_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    original = context.NodeContext.__init__

    def initialize(self: context.NodeContext, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.attributes = _Watched(self.attributes, read)

    monkeypatch.setattr(context.NodeContext, "__init__", initialize)
    version = max(schema.since_version for schema in schemas() if schema.name == name)
    for operands, attributes in NODES[name]:
        names = [f"x{index}" for index in range(len(operands))]
        outputs = ["y", "z"] if name.endswith("Classifier") else ["y"]
        node = helper.make_node(name, names, outputs, domain=ML, **attributes)
        values = [helper.make_value_info(*pair) for pair in zip(names, operands)]
        graph = helper.make_graph(
            [node], "g", values, [onnx.ValueInfoProto(name=output) for output in outputs]
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, version)]
        import_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    known = set(defs.get_schema(name, version, ML).attributes)
    assert known - read <= WITHOUT_MEANING

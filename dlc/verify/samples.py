"""Graphs of one node for operators that ONNX's backend tests meet in no such graph, by element type.

They are written in ONNX's text format, with `$T` for the element type and `$code` for its number.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"
NCHWC = "com.microsoft.nchwc"
#: The opsets of the graphs.
OPSETS: Mapping[str, int] = {"": 26, ML: 5, MICROSOFT: 1, NCHWC: 1}

#: The types of numeric features in ai.onnx.ml, and of those that keep their fractions.
NUMBERS = "float double int32 int64"
FRACTIONS = "float double"

#: A tree of one test, x[0] <= 0, with a vote on either side.
_STUMP = (
    "nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [0, 0, 0], "
    'nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values = [0.0, 0.0, 0.0], '
    "nodes_truenodeids = [1, 0, 0], nodes_falsenodeids = [2, 0, 0]"
)
_VOTES = "_treeids = [0, 0], {0}_nodeids = [1, 2], {0}_ids = [0, 1], {0}_weights = [1.0, 2.0]"
_SUPPORT_VECTORS = (
    'kernel_type = "RBF", kernel_params = [0.5, 0.0, 3.0], support_vectors = [1.0, 2.0, 3.0, 4.0], '
    "coefficients = [1.0, -1.0], rho = [0.25]"
)
_ONES = f"{{{', '.join(['1'] * 16)}}}"


@dataclass(frozen=True)
class Sample:
    """A graph of one node: its inputs, and its attributes and operands, in ONNX's text format.

    `dtypes` are ONNX's names of the element types it is for, "" for all those of the operator's schema. For
    the types that it names it stands alone, without the backend tests.
    """

    name: str
    inputs: str
    call: str
    dtypes: str = ""
    domain: str = ""
    results: str = "y"

    def model(self, onnx_name: str) -> onnx.ModelProto:
        """The model for one element type."""
        import onnx

        code = onnx.TensorProto.DataType.Value(onnx_name.upper())
        one = {"string": '"a"', "complex64": "1, 0", "complex128": "1, 0"}.get(onnx_name, "1")
        opsets = ", ".join(f'"{domain}" : {version}' for domain, version in OPSETS.items())
        operator = f"{self.domain}.{self.name}" if self.domain else self.name
        node = f"{self.results} = {operator} {self.call}"
        text = (
            f"<ir_version: 13, opset_import: [{opsets}]> g ({self.inputs}) => ({self.results}) {{ {node} }}"
        )
        return onnx.parser.parse_model(string.Template(text).substitute(T=onnx_name, code=code, one=one))


_SAMPLES: tuple[Sample, ...] = (
    Sample("BitCast", "$T[3] x", "<to = $code>(x)"),
    Sample("ConcatFromSequence", "seq($T[2, 3]) x", "<axis = 0>(x)"),
    Sample("Constant", "", "<value = $T[1] {$one}>()"),
    Sample("GlobalLpPool", "$T[1, 3, 4, 5] x", "<p = 2>(x)"),
    Sample(
        "MaxRoiPool", "$T[1, 2, 6, 6] x, $T[3, 5] r", "<pooled_shape = [2, 2], spatial_scale = 0.5>(x, r)"
    ),
    Sample("Multinomial", "$T[2, 4] x", "<sample_size = 3>(x)"),
    Sample("Optional", "$T[2, 3] x", "(x)"),
    Sample("OptionalGetElement", "optional($T[2, 3]) x", "(x)"),
    Sample("OptionalHasElement", "optional($T[2, 3]) x", "(x)"),
    Sample("RMSNormalization", "$T[2, 8] x, $T[8] s", "(x, s)"),
    Sample("RandomNormal", "", "<shape = [2, 3], dtype = $code>()"),
    Sample("RandomNormalLike", "$T[2, 3] x", "<dtype = 1>(x)"),
    Sample("RandomUniform", "", "<shape = [2, 3], dtype = $code>()"),
    Sample("RandomUniformLike", "$T[2, 3] x", "<dtype = 1>(x)"),
    Sample(
        "Scan",
        "$T[2] h, $T[4, 2] x",
        "<num_scan_inputs = 1, body = b ($T[2] a, $T[2] e) => ($T[2] c, $T[2] d) "
        "{ c = Identity(e) d = Identity(a) }>(h, x)",
        results="y, z",
    ),
    Sample("SequenceAt", "seq($T[2]) x, int64 i", "(x, i)"),
    Sample("SequenceConstruct", "$T[2] x, $T[2] z", "(x, z)"),
    Sample("SequenceEmpty", "", "<dtype = $code>()"),
    Sample("SequenceErase", "seq($T[2]) x, int64 i", "(x, i)"),
    Sample("SequenceInsert", "seq($T[2]) x, $T[2] z", "(x, z)"),
    Sample("SequenceLength", "seq($T[2]) x", "(x)"),
    Sample("SequenceMap", "seq($T[2]) x", "<body = b ($T[2] a) => ($T[2] c) { c = Identity(a) }>(x)"),
    Sample("SimplifiedLayerNormalization", "$T[2, 8] x, $T[8] s", "(x, s)", "float float16 bfloat16 double"),
    Sample("SplitToSequence", "$T[6, 2] x", "<axis = 0>(x)"),
    Sample(
        "TfIdfVectorizer",
        "$T[4] x",
        '<mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0, ngram_counts = [0], '
        'ngram_indexes = [0, 1], pool_strings = ["a", "b"]>(x)',
        "string",
    ),
    Sample("CastMap", "map(int64, $T) x", '<cast_to = "TO_FLOAT">(x)', "float string", domain=ML),
    Sample("CategoryMapper", "$T[3] x", '<cats_strings = ["a", "b"], cats_int64s = [1, 2]>(x)', domain=ML),
    Sample(
        "DictVectorizer",
        "map(string, $T) x",
        '<string_vocabulary = ["a", "b"]>(x)',
        "float double int64",
        domain=ML,
    ),
    Sample("FeatureVectorizer", "$T[2, 3] x, $T[2, 2] z", "<inputdimensions = [3, 2]>(x, z)", domain=ML),
    Sample(
        "Imputer",
        "$T[2, 3] x",
        "<imputed_value_floats = [1.0], replaced_value_float = 0.0>(x)",
        FRACTIONS,
        domain=ML,
    ),
    Sample(
        "Imputer",
        "$T[2, 3] x",
        "<imputed_value_int64s = [1], replaced_value_int64 = 0>(x)",
        "int32 int64",
        domain=ML,
    ),
    Sample(
        "LabelEncoder",
        "$T[3] x",
        "<keys_floats = [1.0, 2.0], values_floats = [3.0, 4.0]>(x)",
        "float",
        domain=ML,
    ),
    Sample(
        "LabelEncoder", "$T[3] x", "<keys_int64s = [1, 2], values_int64s = [3, 4]>(x)", "int64", domain=ML
    ),
    Sample(
        "LabelEncoder",
        "$T[3] x",
        "<keys_tensor = $T[2] {1, 2}, values_tensor = $T[2] {3, 4}, default_tensor = $T[1] {0}>(x)",
        "double int16 int32",
        domain=ML,
    ),
    Sample(
        "LinearClassifier",
        "$T[2, 3] x",
        "<coefficients = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], intercepts = [0.0, 1.0], classlabels_ints = [0, 1]>"
        "(x)",
        results="y, scores",
        domain=ML,
    ),
    Sample(
        "LinearRegressor",
        "$T[2, 3] x",
        "<coefficients = [1.0, 2.0, 3.0], intercepts = [0.5]>(x)",
        "float",
        domain=ML,
    ),
    Sample("Normalizer", "$T[2, 3] x", '<norm = "L2">(x)', domain=ML),
    Sample("OneHotEncoder", "$T[2, 3] x", "<cats_int64s = [0, 1, 2]>(x)", NUMBERS, domain=ML),
    Sample("OneHotEncoder", "$T[2, 3] x", '<cats_strings = ["a", "b"]>(x)', "string", domain=ML),
    Sample(
        "SVMClassifier",
        "$T[3, 2] x",
        f"<{_SUPPORT_VECTORS}, vectors_per_class = [1, 1], classlabels_ints = [0, 1]>(x)",
        results="y, scores",
        domain=ML,
    ),
    Sample("SVMRegressor", "$T[3, 2] x", f"<{_SUPPORT_VECTORS}, n_supports = 2>(x)", domain=ML),
    Sample("Scaler", "$T[2, 3] x", "<offset = [1.0], scale = [2.0]>(x)", domain=ML),
    Sample(
        "TreeEnsemble",
        "$T[4, 2] x",
        "<n_targets = 1, aggregate_function = 1, tree_roots = [0], nodes_featureids = [0], "
        "nodes_modes = uint8[1] {0}, nodes_splits = $T[1] {0}, nodes_truenodeids = [0], "
        "nodes_trueleafs = [1], nodes_falsenodeids = [1], nodes_falseleafs = [1], leaf_targetids = [0, 0], "
        "leaf_weights = $T[2] {1, 2}>(x)",
        domain=ML,
    ),
    Sample(
        "TreeEnsembleClassifier",
        "$T[4, 2] x",
        f"<{_STUMP}, class{_VOTES.format('class')}, classlabels_int64s = [0, 1]>(x)",
        results="y, scores",
        domain=ML,
    ),
    Sample(
        "TreeEnsembleRegressor",
        "$T[4, 2] x",
        f"<{_STUMP}, target{_VOTES.format('target')}, n_targets = 2>(x)",
        domain=ML,
    ),
    Sample("ZipMap", "$T[2, 3] x", "<classlabels_int64s = [0, 1, 2]>(x)", "float", domain=ML),
    Sample(
        "FusedMatMulActivation", "$T[2, 3] x, $T[3, 4] w", '<activation = "Relu">(x, w)', "float", MICROSOFT
    ),
    Sample("GemmFastGelu", "$T[2, 3] x, $T[3, 4] w", "(x, w)", "float float16 bfloat16", MICROSOFT),
    Sample("TransposeMatMul", "$T[3, 2] x, $T[3, 4] w", "<transA = 1>(x, w)", "float", MICROSOFT),
    Sample(
        "GatherND",
        "$T[2, 3] x, int64[2, 1] i",
        "(x, i)",
        "float float16 double int32 int64 bool string",
        domain=MICROSOFT,
    ),
    Sample("Pad", "$T[2, 3] x, int64[4] p", "(x, p)", "float float16 double", domain=MICROSOFT),
    Sample(
        "Range", "$T x, $T z, $T step", "(x, z, step)", "float double int16 int32 int64", domain=MICROSOFT
    ),
    Sample("AveragePool", "$T[1, 16, 6, 6] x", "<kernel_shape = [2, 2]>(x)", "float", NCHWC),
    Sample("Conv", f"$T[1, 16, 6, 6] x, $T[16, 1, 1, 1] w = {_ONES}", "<group = 16>(x, w)", "float", NCHWC),
    Sample("GlobalAveragePool", "$T[1, 16, 6, 6] x", "(x)", "float", NCHWC),
    Sample("GlobalMaxPool", "$T[1, 16, 6, 6] x", "(x)", "float", NCHWC),
    Sample("MaxPool", "$T[1, 16, 6, 6] x", "<kernel_shape = [2, 2]>(x)", "float", NCHWC),
    Sample("ReorderInput", "$T[1, 16, 6, 6] x", "(x)", "float", NCHWC),
    Sample("ReorderOutput", "$T[1, 16, 6, 6] x", "<channels = 16>(x)", "float", NCHWC),
    Sample("Upsample", "$T[1, 16, 6, 6] x", "<scales = [1, 1, 2, 2]>(x)", "float", NCHWC),
)


@functools.cache
def samples() -> Mapping[tuple[str, str], tuple[Sample, ...]]:
    """The samples of each operator, by domain and name."""
    found: dict[tuple[str, str], tuple[Sample, ...]] = {}
    for sample in _SAMPLES:
        key = sample.domain, sample.name
        found[key] = (*found.get(key, ()), sample)
    return found

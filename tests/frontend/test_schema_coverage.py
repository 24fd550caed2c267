"""Every operator of the standard's domain has an importer at every opset, and no attribute is ignored.

A newer onnx package shows here what it brought.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

import onnx
import pytest
from onnx import defs, helper

from dlc.errors import Error, UnsupportedError
from dlc.frontend.onnx import context, registry
from dlc.frontend.onnx.graph_importer import NEWEST_OPSET
from dlc.frontend.onnx.importer import import_model
from dlc.frontend.onnx.tensors import ELEMENT_TYPES
from dlc.limits import Limits
from tests.helpers.onnx_cases import as_array, backend_node_cases, with_constants

#: Operator -> why it is not imported.
NOT_IMPORTED: dict[str, str] = {}
#: Operators without a backend case of a single node with tensors, whose attributes their own tests cover.
WITHOUT_CASES = {
    "ConcatFromSequence", "GlobalLpPool", "ImageDecoder", "MaxRoiPool", "Multinomial", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "SequenceEmpty", "Upsample",
}
#: (operator, parameter of its types) -> element types that it does not take, and why not.
NOT_TAKEN: dict[tuple[str, str], tuple[set[str], str]] = {
    ("Col2Im", "T"): ({"string"}, "strings have no sums"),
    ("DequantizeLinear", "T2"): ({"float8e8m0"}, "the result would have that type, which T3 does not allow"),
    ("GridSample", "T1"): ({"string", "complex64", "complex128"}, "they are not interpolated"),
    ("Unique", "T"): ({"complex64", "complex128"}, "complex numbers have no order"),
}
#: Element types that no importer takes: there is no NumPy type for them.
UNKNOWN_TYPES = {"float6e2m3", "float6e3m2"}
#: Operators whose type parameters depend on each other or on an attribute; their own tests go through them.
OWN_TYPES = {"BitCast", "TfIdfVectorizer"}
#: Images are decoded only where that is allowed.
ALLOWED = Limits(decoded_pixels=1)
#: The name of an element type in schemas -> TensorProto.DataType.
TYPE_NUMBERS = {
    helper.tensor_dtype_to_string(number).split(".")[-1].lower(): number for number in ELEMENT_TYPES
}


@functools.cache
def schemas() -> tuple[Any, ...]:
    """All versions of all operators of the default domain, and the preview's."""
    return tuple(s for s in defs.get_all_schemas_with_history() if s.domain in ("", "ai.onnx.preview"))


def operators() -> list[str]:
    return sorted({schema.name for schema in schemas() if schema.domain == ""})


def test_the_standard_is_the_one_that_importers_follow() -> None:
    """Meanings change with opsets: a newer one has to be read, not only accepted."""
    assert defs.onnx_opset_version() <= NEWEST_OPSET


@pytest.mark.parametrize("name", operators())
def test_every_version_has_an_importer(name: str) -> None:
    for schema in schemas():
        if schema.name == name and not schema.deprecated:
            found = registry.find(schema.domain, name, schema.since_version)
            assert (found is None) == (name in NOT_IMPORTED), f"{name} of opset {schema.since_version}"


def test_operators_in_preview_have_importers() -> None:
    preview = {schema.name for schema in schemas() if schema.domain == "ai.onnx.preview"}
    assert all(registry.find("ai.onnx.preview", name, 1) for name in preview)


def test_importers_are_for_operators_of_the_standard() -> None:
    """A name that is misspelt would never be found. Of one, onnxruntime's optimizer makes up the domain."""
    names = {name for domain, name in registry.operators() if domain == ""}
    assert names <= {schema.name for schema in schemas()} | {"SimplifiedLayerNormalization"}


def test_every_element_type_of_the_standard_is_known() -> None:
    constraints = [constraint for schema in schemas() for constraint in schema.type_constraints]
    texts = {text for constraint in constraints for text in constraint.allowed_type_strs}
    plain = {text[len("tensor(") : -1] for text in texts if text.startswith("tensor(")}
    assert len(plain - UNKNOWN_TYPES) == len(ELEMENT_TYPES)


class _Watched(dict[str, Any]):
    """Attributes that note which of them were asked for."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)


@pytest.fixture(scope="module")
def watched() -> Iterator[list[tuple[str, _Watched]]]:
    """Operators and attributes of all nodes that are imported, in order."""
    seen: list[tuple[str, _Watched]] = []
    original = context.NodeContext.__init__

    def initialize(self: context.NodeContext, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        attributes = _Watched(self.attributes)
        self.attributes = attributes
        seen.append((self.op_type, attributes))

    patch = pytest.MonkeyPatch()
    patch.setattr(context.NodeContext, "__init__", initialize)
    yield seen
    patch.undo()


def _with_known_shapes(case: Any, open_operands: Collection[str] = ()) -> Any:
    """The case's model with its short operands, but the first, as constants: axes, pads and the like.

    Those named in `open_operands` stay inputs.
    """
    (inputs, _), *_ = case.data_sets
    values = list(zip(case.model.graph.input, inputs))[1:]
    short = {
        value.name: as_array(array)
        for value, array in values
        if not isinstance(array, list | dict | None)
        and as_array(array).ndim < 2
        and as_array(array).size < 17
        and value.name not in open_operands
    }
    return with_constants(case.model, short)


def test_no_attribute_is_ignored(watched: list[tuple[str, _Watched]]) -> None:
    """Importing the backend cases asks for every attribute that a node has, and that its schema knows."""
    imported: list[tuple[str, _Watched]] = []
    for case in backend_node_cases(operators()):
        try:
            import_model(_with_known_shapes(case), limits=ALLOWED)
            imported += watched
        except Error:
            pass  # the conformance tests say what is refused
        watched.clear()
    assert len(imported) > 1000
    asked: dict[str, set[str]] = {}
    for name, attributes in imported:
        assert set(attributes) <= attributes.read, f"{name} ignores {set(attributes) - attributes.read}"
        asked.setdefault(name, set()).update(attributes.read)
    newest = {name: defs.get_schema(name) for name in operators()}
    for name, known in newest.items():
        if name in asked:
            ignored = set(known.attributes) - asked[name]
            assert not ignored, f"{name} ignores {ignored}"
    unseen = {name for name, s in newest.items() if name not in asked and s.attributes and not s.deprecated}
    assert unseen <= WITHOUT_CASES, f"nothing imports {sorted(unseen - WITHOUT_CASES)}"


def _typed_operands(schema: Any, node: Any) -> dict[str, list[str]]:
    """Parameter of the schema's types -> the operands of the node that are of it."""
    operands: dict[str, list[str]] = {}
    for index, name in enumerate(node.input):
        if name:
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            operands.setdefault(formal.type_str, []).append(name)
    return operands


def _retyped(case: Any, operands: list[str], element_type: int) -> onnx.ModelProto:
    """The case's model with `operands` of another element type, and other short operands as constants."""
    model = _with_known_shapes(case, set(operands))
    for value in model.graph.input:
        if value.name in operands:
            value.type.tensor_type.elem_type = element_type
    for value in model.graph.output:
        value.ClearField("type")
    return model


def _imports(model: onnx.ModelProto) -> bool:
    try:
        import_model(model, limits=ALLOWED)
    except UnsupportedError as error:
        return "computed at run time" in str(error)
    except Error:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", operators())
def test_every_element_type_is_taken(name: str) -> None:
    """For each type that the newest schema allows for an operand there is a case that imports with it."""
    schema = defs.get_schema(name)
    cases = [
        case
        for case in backend_node_cases([name])
        if case.model.opset_import[0].version >= schema.since_version
        and all(value.type.HasField("tensor_type") for value in case.model.graph.input)
    ]
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    for parameter in allowed if name not in OWN_TYPES else ():
        texts = {text[len("tensor(") : -1] for text in allowed[parameter] if text.startswith("tensor(")}
        refused, _ = NOT_TAKEN.get((name, parameter), (set(), ""))
        for text in sorted(texts - UNKNOWN_TYPES):
            retyped = [
                _retyped(case, operands, TYPE_NUMBERS[text])
                for case in cases[:4]
                if (operands := _typed_operands(schema, case.model.graph.node[0]).get(parameter))
            ]
            taken = any(map(_imports, retyped))
            assert taken == (text not in refused) or not retyped, f"{name}: {parameter} of {text}"

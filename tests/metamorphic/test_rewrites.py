"""The same model written in another way gives the same bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import dlc
from tests.helpers.model_zoo import Model, assert_agrees, bits
from tests.metamorphic.rewrites import REWRITES, outlined, renamed, with_identities
from tests.models.architectures import named

MODELS = [named(name) for name in ("mobilenet", "unet", "bert", "lstm", "quantized", "detector")]


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.name)
def case(request: pytest.FixtureRequest) -> tuple[Model, dlc.Outputs]:
    """A model and what it computes."""
    model: Model = request.param
    with model.compile() as native:
        return model, native(model.feeds())


@pytest.mark.parametrize("rewrite", REWRITES)
def test_rewritten_models_give_equal_bits(case: tuple[Model, dlc.Outputs], rewrite: str) -> None:
    model, expected = case
    with dlc.compile(REWRITES[rewrite](model.proto()), cache=False) as native:
        assert native.outputs and [spec.name for spec in native.outputs] == list(expected.names)
        assert bits(native(model.feeds())) == bits(expected)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_fixed_sizes_agree_with_symbolic_ones(model: Model) -> None:
    """Loops over a known extent may be tiled in another way, so that sums over it take another order."""
    sizes = {name: tuple(shape) for name, shape in model.bindings[1].items()}
    with dlc.compile(model.source(), cache=False, shapes=sizes) as native:
        assert all(isinstance(dim, int) for spec in native.inputs for dim in spec.shape)
        assert_agrees(model, native(model.feeds(1)), 1)
        with pytest.raises(dlc.ShapeError):
            native(model.feeds(2))


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_lower_levels_of_optimization_agree(model: Model, level: int) -> None:
    with model.compile(optimize=level) as native:
        assert_agrees(model, native(model.feeds(1)), 1)


def test_the_rewrites_change_the_model_as_they_say() -> None:
    proto = named("bert").proto()
    count = len(proto.graph.node)
    identities = sum(node.op_type == "Identity" for node in with_identities(proto).graph.node)
    assert identities > count
    names = {name for node in proto.graph.node for name in node.output} - {v.name for v in proto.graph.output}
    assert not names & {name for node in renamed(proto).graph.node for name in node.output}
    functions = outlined(proto)
    assert len(functions.functions) == len(functions.graph.node) == -(-count // 5)
    orders = [
        [node.name for node in REWRITES[key](proto).graph.node] for key in ("reordered", "reordered again")
    ]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    for rewrite in REWRITES.values():
        onnx.checker.check_model(rewrite(proto))


def test_a_different_model_gives_different_bits(case: tuple[Model, dlc.Outputs]) -> None:
    model, expected = case
    changed = onnx.ModelProto.FromString(model.proto().SerializeToString())
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in changed.graph.initializer]
    largest = max(range(len(tensors)), key=lambda i: tensors[i].size if tensors[i].dtype.kind in "fi" else 0)
    values = tensors[largest] + np.ones((), tensors[largest].dtype)
    changed.graph.initializer[largest].CopyFrom(
        onnx.numpy_helper.from_array(values, changed.graph.initializer[largest].name)
    )
    with dlc.compile(changed, cache=False) as native:
        assert bits(native(model.feeds())) != bits(expected)

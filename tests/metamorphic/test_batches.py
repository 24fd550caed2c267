"""What one element of a batch gives does not depend on the others, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

import dlc
from tests.helpers.model_zoo import Model, bits
from tests.helpers.recipes import Array
from tests.models.architectures import named

BATCH = 5
#: Models, and the axis of the batch in inputs and outputs that have it elsewhere than first.
AXES: dict[str, dict[str, int]] = {
    "resnet": {},
    "resnext": {},
    "unet": {},
    "volume": {},
    "vit": {},
    "bert": {},
    "llama": {},
    "modern": {},
    "lstm": {},
    "gru": {"ids": 1, "state": 1, "logits": 1, "next": 1},
    "rnn": {"series": 1, "last": 1},
    "conformer": {},
    "mlp": {},
    "half": {},
}


@pytest.fixture(scope="module", params=AXES)
def case(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[dlc.CompiledModel, dict[str, int], dict[str, Array]]]:
    """A compiled model, the axes of its batch, and inputs with a batch of five different elements."""
    model, axes = named(request.param), AXES[request.param]
    singles = [model.feeds(1, seed) for seed in range(BATCH)]
    whole = {
        name: np.concatenate([single[name] for single in singles], axes.get(name, 0)) for name in singles[0]
    }
    with model.compile() as native:
        yield native, axes, whole


def take(arrays: Mapping[str, Array], axes: Mapping[str, int], chosen: list[int]) -> dict[str, Array]:
    """Some elements of a batch."""
    return {
        name: np.ascontiguousarray(np.take(array, chosen, axes.get(name, 0)))
        for name, array in arrays.items()
    }


@pytest.mark.parametrize(
    "chosen",
    [[4, 2, 0, 3, 1], [3], [0, 1], [2, 2, 2, 2, 2, 2, 2]],
    ids=["permuted", "alone", "split", "repeated"],
)
def test_elements_of_a_batch_are_independent(
    case: tuple[dlc.CompiledModel, dict[str, int], dict[str, Array]], chosen: list[int]
) -> None:
    native, axes, whole = case
    expected = take(native(whole).to_dict(), axes, chosen)
    assert bits(native(take(whole, axes, chosen))) == bits(list(expected.values()))


def test_every_model_has_a_batch_of_one_at_its_second_binding() -> None:
    for name, axes in AXES.items():
        model: Model = named(name)
        assert all(array.shape[axes.get(key, 0)] == 1 for key, array in model.feeds(1).items())

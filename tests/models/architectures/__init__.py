"""Small models of many families: exported by both exporters of PyTorch, or written in ONNX directly.

Weights come from NumPy generators seeded with the parameters' names, so that a model depends on its source
and the exporter's version only. Exported files are kept in a folder of the user (see helpers/fetch.py).
"""

from __future__ import annotations

import functools

from tests.helpers.model_zoo import Model
from tests.models.architectures import (
    control,
    convolutional,
    dense,
    direct,
    encoders,
    generative,
    recurrent,
    segmentation,
    transformers,
)
from tests.models.architectures.registry import ARCHITECTURES

__all__ = [
    "architectures",
    "control",
    "convolutional",
    "dense",
    "direct",
    "encoders",
    "generative",
    "named",
    "recurrent",
    "segmentation",
    "transformers",
]


def architectures() -> tuple[Model, ...]:
    """All models, by family."""
    return tuple(architecture.model for architecture in ARCHITECTURES.values())


@functools.cache
def named(name: str) -> Model:
    """The model of that name."""
    return ARCHITECTURES[name].model

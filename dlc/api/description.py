"""What an ONNX model says about itself, as a package keeps it: producer, versions, properties, names of dims.

All of it is data that whoever made the file chose; nothing of it decides what the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlc.ir.types import TensorType
from dlc.runtime.codec import decode
from dlc.runtime.manifest import Manifest

if TYPE_CHECKING:
    from dlc.frontend.onnx.importer import ImportedModel

#: Where a manifest's `extra` holds the description.
KEY = "description"


@dataclass(frozen=True)
class Description:
    """The fields of a ModelProto that describe the model; `dims` gives ONNX's name of each named symbol, and
    `defaults` are the inputs with values in the model, which are compiled in.
    """

    producer: str = ""
    domain: str = ""
    version: int = 0
    text: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    dims: Mapping[str, str] = field(default_factory=dict)
    defaults: tuple[str, ...] = ()


def describe_model(model: ImportedModel) -> Description:
    """The description of an imported model."""
    data = model.metadata
    named = [
        (str(dim), name)
        for spec in model.inputs
        if isinstance(spec.type, TensorType)
        for dim, name in zip(spec.type.shape, spec.dim_names, strict=True)
        if name is not None
    ]
    return Description(
        data.producer,
        data.domain,
        data.model_version,
        data.description,
        dict(sorted(data.properties.items())),
        dict(sorted(named)),
        data.defaults,
    )


def stored_description(manifest: Manifest) -> Description:
    """The description that a package holds, else an empty one; PackageError if it is malformed."""
    description: Description = decode(Description, manifest.extra.get(KEY, {}), KEY)
    return description

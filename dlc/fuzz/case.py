"""A model with inputs for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A generated model and the inputs to run it on.

    `others` are further inputs for the same model, with other extents of its symbolic dims; engines may
    refuse them. `options` are options of `dlc.compile` to use.
    """

    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    others: tuple[Mapping[str, Array], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators of the main graph and of functions, sorted."""
        nodes = [*self.model.graph.node, *(node for f in self.model.functions for node in f.node)]
        return tuple(sorted({node.op_type for node in nodes}))

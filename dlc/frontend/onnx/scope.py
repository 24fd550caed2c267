"""Names in force at one place of a model: of the main graph, of a subgraph within it, or of a function's
body.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dlc.errors import ModelError, printable
from dlc.ir.graph import Value

if TYPE_CHECKING:
    from onnx import TypeProto, ValueInfoProto


class Missing(enum.Enum):
    """Why a name stands for no value."""

    #: Its node could not be imported, which has been reported; what reads it is skipped.
    POISONED = "poisoned"
    #: An optional operand of a function call was left out.
    ABSENT = "absent"


class Scope:
    """The values that ONNX names stand for, with the opsets and function attributes that hold there.

    A subgraph sees the names of its `parent`; a function's body has none. `prefix` is the name of the
    enclosing If or call, "" in the main graph, and `depth` the nesting. Where the scope is that of a region,
    `capture` gives the value within the region that stands for one of the graphs around it.
    """

    def __init__(
        self,
        opsets: Mapping[str, int],
        *,
        parent: Scope | None = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
        depth: int = 0,
        capture: Callable[[Value], Value] | None = None,
    ) -> None:
        self.opsets = opsets
        self.parent = parent
        self.attributes = attributes or {}
        self.prefix = prefix
        self.depth = depth
        self.capture = capture
        self._values: dict[str, Value | Missing] = {}
        self._declared: dict[str, TypeProto] = {}

    @property
    def is_main(self) -> bool:
        """Whether this is the scope of the main graph, whose names are those of our values."""
        return not self.prefix

    def define(self, name: str, value: Value | Missing) -> None:
        """Enter `name`; ModelError (code "model/graph") when this scope has it already."""
        if name in self._values:
            raise ModelError(f"the name '{printable(name)}' is defined twice", code="model/graph")
        self._values[name] = value

    def defines(self, name: str) -> bool:
        """Whether this scope itself has `name`."""
        return name in self._values

    def declare(self, infos: Iterable[ValueInfoProto]) -> None:
        """Note the types that a graph claims its values to have."""
        self._declared.update((info.name, info.type) for info in infos)

    def declared_rank(self, name: str) -> int | None:
        """The rank that the model claims a tensor of this scope to have."""
        type_ = self._declared.get(name)
        if type_ is None or not type_.tensor_type.HasField("shape"):
            return None
        return len(type_.tensor_type.shape.dim)

    def sees(self, name: str) -> bool:
        """Whether `name` means something here, in this scope or around it."""
        return name in self._values or (self.parent is not None and self.parent.sees(name))

    def find(self, name: str) -> Value | Missing:
        """What `name` stands for; ModelError (code "model/graph") when it is unknown."""
        if name in self._values:
            return self._values[name]
        if self.parent is None:
            raise ModelError(f"the name '{printable(name)}' is read but never defined", code="model/graph")
        found = self.parent.find(name)
        return self.capture(found) if self.capture and isinstance(found, Value) else found

    def inner(self, prefix: str, capture: Callable[[Value], Value] | None = None) -> Scope:
        """The scope of a subgraph of the node called `prefix`, which is a region if `capture` is given."""
        return Scope(
            self.opsets,
            parent=self,
            attributes=self.attributes,
            prefix=prefix,
            depth=self.depth + 1,
            capture=capture,
        )

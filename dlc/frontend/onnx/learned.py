"""What an import has found out about nodes with subgraphs.

The body of a loop is imported until it is known what changes from iteration to iteration, and with it all
that stands in it. Without a memory, loops within loops would take exponential time.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

#: A node: its name with those of the nodes around it, how deep it stands, and its outputs.
Place: TypeAlias = tuple[str, int, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Settled:
    """Which states of a loop no iteration changes, and which extents (state, axis) of others change."""

    invariant: frozenset[int]
    changing: frozenset[tuple[int, int]]


@dataclasses.dataclass
class Learned:
    """Loops as they settled, and the ways that were taken for Ifs whose results have different ranks."""

    loops: dict[Place, Settled] = dataclasses.field(default_factory=dict)
    ways: dict[Place, bool] = dataclasses.field(default_factory=dict)

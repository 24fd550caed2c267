"""One form for what exporters write in many ways."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.passes.canonical import arithmetic, casts, movement, selection
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import RewritePass, Rule


@dataclasses.dataclass(frozen=True)
class Canonicalize(RewritePass):
    """Bring a graph into the form that later passes match: see the rules in `dlc.passes.canonical`.

    Constants stand on the right; neutral elements, no-op casts and movements, and second applications of one
    function are gone; movements in a row are one; bounds are Clips; nothing is expanded before a broadcast.
    Division by a constant stays, since multiplication by the reciprocal rounds differently.

    Example:

        %a = Binary(fn="add")(%one, %x)
        %b = Transpose(perm=(1, 0))(%a)
        %c = Transpose(perm=(1, 0))(%b)
        %y = Binary(fn="max")(%c, %zero)

    becomes

        %a = Binary(fn="add")(%x, %one)
        %y = Unary(fn="relu")(%a)
    """

    name: ClassVar[str] = "canonicalize"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    ensures: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.LIVE})

    def rules(self) -> Sequence[Rule]:
        return (*arithmetic.RULES, *casts.RULES, *movement.RULES, *selection.RULES)

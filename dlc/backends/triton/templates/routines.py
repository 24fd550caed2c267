"""Routines: a template each, found by name."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.templates import compact, coupling, distinct, roi, suppression, top_k, trees
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.lowering.kernel import Kernel, Routine
from dlc.target import GpuTarget

#: The template of each routine.
ROUTINES: dict[str, ModuleType] = {
    "top_k": top_k,
    "compact": compact,
    "distinct": distinct,
    "non_max_suppression": suppression,
    "roi_align": roi,
    "pairwise_coupling": coupling,
    **dict.fromkeys(("tree_values", "tree_rows", "tree_votes"), trees),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """The template of a routine, and what it read from the part."""

    template: ModuleType
    form: Any


def match(part: Kernel) -> Form | Declined:
    """Takes one routine alone."""
    match part.body:
        case (Routine(name=name),):
            if name not in ROUTINES:
                return Declined(f"there is no template of the routine {name}")
            form = ROUTINES[name].match(part)
            return form if isinstance(form, Declined) else Form(ROUTINES[name], form)
    return Declined("it is no routine")


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call | Launches:
    """What the routine's template writes."""
    written: Call | Launches = form.template.emit(part, form.form, target)
    return written

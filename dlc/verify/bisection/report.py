"""The outcome of a bisection, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dlc.errors import printable
from dlc.verify.compare import Difference
from dlc.verify.result import json_numbers


class Level(Enum):
    """Between which two meanings of the model an answer changes."""

    IMPORT = "import"
    PASS = "pass"
    LOWERING = "lowering"
    CODE = "code generation"
    THREADS = "threads"


@dataclass(frozen=True)
class Culprit:
    """The first place where an answer goes wrong. What does not apply is None or empty.

    `cause` says in a sentence what was observed. `step` is the number of the program's step, `kernel` the
    name of its function, `template` what wrote that; `nodes` are ONNX names. `value` names the tensor in
    which `difference` was found; a difference is absent where the fault is no wrong number (a write outside
    a buffer, an exception).
    """

    level: Level
    cause: str
    pass_name: str | None = None
    rewrite: str | None = None
    step: int | None = None
    kernel: str | None = None
    template: str | None = None
    nodes: tuple[str, ...] = ()
    value: str | None = None
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """The culprit as JSON-compatible data."""
        return {
            "level": self.level.value,
            "cause": self.cause,
            "pass": self.pass_name,
            "rewrite": self.rewrite,
            "step": self.step,
            "kernel": self.kernel,
            "template": self.template,
            "nodes": list(self.nodes),
            "value": self.value,
            "difference": None if self.difference is None else self.difference.to_dict(),
        }


@dataclass(frozen=True)
class BisectionReport:
    """Where a model's answer goes wrong first, or that it does not. True in a condition when it does not.

    `checked` has the number of comparisons made at each level that was reached.
    """

    model: str
    culprit: Culprit | None
    checked: tuple[tuple[Level, int], ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.culprit is None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data (see `json_numbers` for infinities)."""
        return {
            "model": self.model,
            "difference": self.culprit is not None,
            "culprit": None if self.culprit is None else self.culprit.to_dict(),
            "checked": {level.value: count for level, count in self.checked},
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(json_numbers(self.to_dict()), indent=2)

    def __str__(self) -> str:
        checked = ", ".join(f"{level.value} {count}" for level, count in self.checked)
        if self.culprit is None:
            lines = [f"bisection of {printable(self.model)}: no difference"]
        else:
            head = f"first difference at the level {self.culprit.level.value}"
            lines = [f"bisection of {printable(self.model)}: {head}", *_describe(self.culprit)]
        lines.append(f"  compared: {checked}")
        return "\n".join([*lines, *(f"  note: {printable(note, limit=1000)}" for note in self.notes)])


def _describe(culprit: Culprit) -> list[str]:
    lines = [f"  {printable(culprit.cause, limit=1000)}"]
    places = {
        "pass": culprit.pass_name,
        "rewrite": culprit.rewrite,
        "step": None if culprit.step is None else str(culprit.step),
        "kernel": culprit.kernel,
        "template": culprit.template,
        "nodes": ", ".join(culprit.nodes) or None,
        "value": culprit.value,
    }
    lines += [
        f"  {name}: {printable(place, limit=300)}" for name, place in places.items() if place is not None
    ]
    found = culprit.difference
    if found is None:
        return lines
    if found.problem is not None:
        return [*lines, f"  {printable(found.problem)}"]
    shape = ", ".join(map(str, found.shape))
    lines.append(
        f"  {found.mismatched} of {found.elements} elements of {found.dtype}[{shape}] differ, the first at "
        f"{list(found.first or ())}"
    )
    lines.append(
        f"  max |difference| {found.max_abs:.3g} ({found.max_ulp} ulp), RMS of the values {found.rms:.3g}"
    )
    if found.worst is not None and found.worst_values is not None:
        ours, theirs = (printable(value) for value in found.worst_values)
        lines.append(f"  worst at {list(found.worst)}: {ours}, expected {theirs}")
    return lines

"""The outcome of a verification, as text and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from dlc.errors import VerificationError, printable
from dlc.verify.compare import Difference

if TYPE_CHECKING:
    from dlc.verify.bisection.report import BisectionReport


class Verdict(Enum):
    """Why an output counts as right or wrong."""

    WITHIN_TOLERANCE = "within tolerance"
    AS_CLOSE_TO_FLOAT64 = "as close to float64 as the other engine"
    DIFFERS = "differs"


@dataclass(frozen=True)
class OutputResult:
    """One output tensor: its difference from the expected one, and both engines' distance to float64.

    A distance is max |value - exact| / RMS(exact); None where the model did not run in float64.
    """

    difference: Difference
    ours_to_float64: float | None = None
    theirs_to_float64: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Within the tolerance, or (float64 known) at most `factor` times farther from it than the other."""
        if self.difference.agrees:
            return Verdict.WITHIN_TOLERANCE
        ours, theirs, factor = self.ours_to_float64, self.theirs_to_float64, self.difference.tolerance.factor
        if self.difference.problem is not None or ours is None or theirs is None or factor == 0:
            return Verdict.DIFFERS
        close = math.isfinite(ours) and ours <= factor * theirs
        return Verdict.AS_CLOSE_TO_FLOAT64 if close else Verdict.DIFFERS

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-compatible data."""
        return {
            **self.difference.to_dict(),
            "verdict": self.verdict.value,
            "ours_to_float64": self.ours_to_float64,
            "theirs_to_float64": self.theirs_to_float64,
        }


@dataclass(frozen=True)
class Verification:
    """Whether a compiled model computes what another engine does. True in a condition when it does.

    `against` names the other engine, `exact` the float64 engine (None if there was none); `notes` says what
    the caller should know, such as an engine that could not run the model. `bisection`, if there was one,
    must have found nothing, either.
    """

    model: str
    against: str
    exact: str | None
    outputs: tuple[OutputResult, ...]
    notes: tuple[str, ...] = ()
    bisection: BisectionReport | None = None

    @property
    def agrees(self) -> bool:
        """Whether every output is right, and there is at least one."""
        return bool(self.outputs) and all(out.verdict is not Verdict.DIFFERS for out in self.outputs)

    def __bool__(self) -> bool:
        return self.agrees and (self.bisection is None or bool(self.bisection))

    def raise_for_difference(self) -> None:
        """Raise VerificationError naming the outputs that differ, if any does, or what a bisection found."""
        if self.agrees and self.bisection is not None and self.bisection.culprit is not None:
            raise VerificationError(printable(self.bisection.culprit.cause, limit=1000))
        if not self.agrees:
            wrong = [out.difference.name for out in self.outputs if out.verdict is Verdict.DIFFERS]
            names = ", ".join(printable(name) for name in wrong[:5]) or "no output was compared"
            raise VerificationError(f"results differ from {self.against}: {names}")

    def to_dict(self) -> dict[str, Any]:
        """The verification as JSON-compatible data (see `json_numbers` for infinities)."""
        return {
            "model": self.model,
            "against": self.against,
            "exact": self.exact,
            "agrees": self.agrees,
            "outputs": [out.to_dict() for out in self.outputs],
            "notes": list(self.notes),
            "bisection": None if self.bisection is None else self.bisection.to_dict(),
        }

    def to_json(self) -> str:
        """The verification as JSON text; infinities and NaN are strings, which JSON has no numbers for."""
        return json.dumps(json_numbers(self.to_dict()), indent=2)

    def __str__(self) -> str:
        head = "agrees with" if self.agrees else "DIFFERS from"
        lines = [f"{printable(self.model)} {head} {self.against}"]
        for out in self.outputs:
            lines += _describe(out)
        lines += [f"note: {note}" for note in self.notes]
        if self.bisection is not None:
            lines.append(str(self.bisection))
        return "\n".join(lines)


def json_numbers(data: Any) -> Any:
    """`data` with infinities and NaN as the strings "inf", "-inf" and "nan"."""
    match data:
        case dict():
            return {key: json_numbers(value) for key, value in data.items()}
        case list() | tuple():
            return [json_numbers(value) for value in data]
        case float() if not math.isfinite(data):
            return str(data)
        case _:
            return data


def _describe(out: OutputResult) -> list[str]:
    found = out.difference
    shape = ", ".join(str(extent) for extent in found.shape)
    lines = [f"  {printable(found.name)} {found.dtype}[{shape}]: {out.verdict.value}"]
    if found.problem is not None:
        return [*lines, f"    {found.problem}"]
    lines.append(
        f"    max |difference| {found.max_abs:.3g} ({found.max_ulp} ulp), relative {found.max_rel:.3g}, "
        f"RMS of the values {found.rms:.3g}"
    )
    if found.mismatched:
        outside = f"    {found.mismatched} of {found.elements} elements outside the tolerance"
        lines.append(outside + (f", {found.nonfinite} of them NaN or infinite" if found.nonfinite else ""))
    if found.worst is not None and found.worst_values is not None:
        ours, theirs = (printable(value) for value in found.worst_values)
        lines.append(f"    worst at {list(found.worst)}: {ours}, expected {theirs}")
    if out.ours_to_float64 is not None and out.theirs_to_float64 is not None:
        ours, theirs = f"{out.ours_to_float64:.3g}", f"{out.theirs_to_float64:.3g}"
        lines.append(f"    distance to float64: ours {ours}, theirs {theirs}")
    return lines

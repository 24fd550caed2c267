"""docs/models.md: whole models beside other engines; made of the records of verifying.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tests.models_table.verifying import Record, records

PATH = Path(__file__).parents[2] / "docs" / "models.md"

_HEAD = """# Models

Whole models, exported as users do: architectures at full size with random weights, scaled so that outputs
are of order one, and trained models. Each is compiled once, and run at every binding of its symbolic dims.
{summary}

- **agrees with**: from whom all outputs are within the tolerance (`dlc/verify/tolerances.py`) at a binding.
  *onnxruntime*; *stored outputs*: torch's, of bfloat16 models, for which onnxruntime has few kernels.
  *float64*: dlc is beyond the tolerance from onnxruntime, and about as close as that to the model evaluated
  in float64, or closer (in parentheses: dlc's distance, and onnxruntime's). *onnxruntime between
  roundings*: a number near a tie that one of two engines rounds up moves many others in a quantized network.
  So each stage between roundings is compared on what onnxruntime had stored before it (in parentheses: the
  share of equal numbers, rounded down, and of those at most a step apart).
- **difference**: the largest from onnxruntime or the stored outputs, relative to the root mean square of
  the output.

`python -m tests.models_table FOLDER` verifies models again (`tests/models_table/verifying.py` says how they
lie there), and writes this table.
"""

_TABLE = """
## {title}

| model | exporter, opset | nodes | bindings | native | agrees with | difference |
|---|---|---|---|---|---|---|
"""


def document() -> str:
    """The file's text."""
    kept = records()
    text = _HEAD.format(summary=summary(kept))
    for title, trained in (("Architectures", False), ("Trained models", True)):
        text += _TABLE.format(title=title)
        text += "".join(_row(record) for record in kept if record.trained is trained)
    return text


def summary(kept: Sequence[Record]) -> str:
    """How many models there are, and how many of them agree and run without host steps."""
    agreeing = sum(record.agrees for record in kept)
    native = sum(not record.hosts for record in kept)
    return (
        f"Of {len(kept)} models {agreeing} agree at all bindings, and {native} run without a step in Python."
    )


def _row(record: Record) -> str:
    native = f"{1 - record.hosts / max(1, record.nodes):.0%}"
    judges = record.judges if record.agrees else f"**differs** from {record.judges}"
    if record.ours is not None and record.theirs is not None:
        judges += f" ({record.ours:.1g}, {record.theirs:.1g})"
    if record.stages is not None:
        equal, within = record.stages
        judges += f" ({_percent(equal)}, {_percent(within)})"
    cells = (
        f"{record.family} (`{record.name}`)",
        record.exporter,
        str(record.nodes),
        str(record.bindings),
        native,
        judges,
        f"{record.difference:.1g}",
    )
    return f"| {' | '.join(cells)} |\n"


def _percent(share: float) -> str:
    """A share in percent, rounded down to four digits behind the point."""
    return f"{math.floor(share * 1e6) / 1e4:.10g} %"

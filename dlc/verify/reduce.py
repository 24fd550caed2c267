"""Reducing a failing model to a few nodes: `dlc reduce`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import InputError, ResourceError, printable
from dlc.verify.compare import Array
from dlc.verify.examine import Symptom, examine_isolated
from dlc.verify.judges import JUDGES
from dlc.verify.reduction import Candidate, Search
from dlc.verify.verification import Source, input_values, load_model

if TYPE_CHECKING:
    import onnx

    from dlc.options import ShapeSpec


@dataclass(frozen=True)
class Reduction:
    """A small model with the same fault as a large one. `tried` counts the models that were examined."""

    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    symptom: Symptom
    nodes_before: int
    nodes: int
    tried: int

    def save(self, path: str | os.PathLike[str]) -> Path | None:
        """Write the model, and the inputs beside it as .npz (returned; None if it has none).

        Raises ResourceError when a file cannot be written.
        """
        target = Path(path)
        try:
            target.write_bytes(self.model.SerializeToString())
            if not self.inputs:
                return None
            arrays: dict[str, Any] = dict(self.inputs)
            np.savez(target.with_suffix(".npz"), **arrays)
        except OSError as error:
            raise ResourceError(f"cannot write '{printable(str(target))}': {error.strerror}") from None
        return target.with_suffix(".npz")

    def to_dict(self) -> dict[str, Any]:
        """The reduction as JSON-compatible data, without the model."""
        return {
            "symptom": self.symptom.kind.value,
            "text": self.symptom.text,
            "nodes_before": self.nodes_before,
            "nodes": self.nodes,
            "operators": [node.op_type for node in self.model.graph.node],
            "tried": self.tried,
        }

    def __str__(self) -> str:
        operators = printable(", ".join(node.op_type for node in self.model.graph.node), 400)
        return (
            f"{self.nodes_before} nodes reduced to {self.nodes} ({operators}), {self.tried} models tried\n"
            f"{printable(str(self.symptom), 600)}"
        )


def reduce(
    source: Source,
    *,
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    against: str | Sequence[str] = tuple(JUDGES),
    seed: int = 0,
    shapes: Mapping[str, ShapeSpec] | None = None,
    seconds: float = 600,
    seconds_each: float = 60,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Reduction:
    """Shrink the failing model `source` as long as its first symptom persists.

    source    an ONNX file, its bytes or a ModelProto
    inputs    arrays by name or an .npz file; random ones of `seed` and `shapes` if absent
    against   engines that decide whether an answer is wrong: "onnxruntime", "reference", or both
    seconds   time for the whole search; `seconds_each` bounds one model, and more is a symptom, too
    options   for `dlc.compile`

    Each model is tried in a child process. A symptom is a wrong answer, an error of one code and place, a
    crash or a delay. Raises InputError when the model shows none.
    """
    judges = (against,) if isinstance(against, str) else tuple(against)
    unknown = [name for name in judges if name not in JUDGES]
    if unknown:
        raise InputError(
            f"cannot judge by '{printable(unknown[0])}'",
            hint="use " + " or ".join(JUDGES),
            code="input/option",
        )
    proto = load_model(source)
    start = Candidate(proto, input_values(proto, inputs, seed, shapes))
    options = {**options, "shapes": None}

    def symptom_of(candidate: Candidate) -> Symptom | None:
        return examine_isolated(
            candidate.model,
            [candidate.inputs],
            options=options,
            judges=judges,
            seconds=seconds_each,
            refusals=True,
        ).symptom

    symptom = symptom_of(start)
    if symptom is None:
        raise InputError(
            "the model shows no fault: it compiles, runs and agrees with " + " and ".join(judges),
            hint="give the inputs that show it (--inputs)",
        )
    search = Search(start, lambda c: symptom.is_like(symptom_of(c)), seconds, progress or (lambda _: None))
    best = search.run()
    final = symptom_of(best) or symptom
    return Reduction(best.model, best.inputs, final, start.size[0], best.size[0], search.tried)

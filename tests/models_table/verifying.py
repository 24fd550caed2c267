"""Holds the models of a folder against other engines and keeps what came out.

A model is a folder with `model.onnx`, inputs for each binding of its symbolic dims (`inputs-0.npz`, ...),
outputs to compare with if no other engine here runs it (`outputs-0.npz`, ...), and `meta.json`, which may
give the model's family and exporter, and say that it is trained.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import dlc
from dlc.verify.inputs import load_inputs, model_inputs
from dlc.verify.result import Verification
from dlc.verify.tolerances import Work
from dlc.verify.verification import load_model, runner, work_of
from tests.models_table.roundings import Stages, compare_stages

RECORDS = Path(__file__).with_name("records.json")


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a model, with `trained` or random weights.

    `nodes` are those of the graph as imported, `hosts` how many of them run on the host. `judges` are the
    engines that it agrees with, at one binding or the other; if it does not agree at each of them, the first
    that were asked. `difference` is the largest from them, relative to an output's root mean square, and
    `outside` the greatest share of elements beyond the tolerance. Where float64 was asked, `ours` and
    `theirs` are dlc's and onnxruntime's largest distances to it. Of quantized models that do not agree as a
    whole, `stages` has the shares of equal numbers, and of those at most a step apart, between roundings.
    """

    name: str
    family: str
    exporter: str
    nodes: int
    bindings: int
    hosts: int
    judges: str
    agrees: bool
    difference: float
    outside: float
    ours: float | None = None
    theirs: float | None = None
    stages: list[float] | None = None
    trained: bool = False


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What a judge says of the outputs at one binding: how they differ from the other engine's, and whether
    they are right.
    """

    judge: str
    found: Verification
    agrees: bool
    stages: Stages | None = None

    @property
    def difference(self) -> float:
        """The largest difference relative to an output's root mean square."""
        results = [output.difference for output in self.found.outputs]
        return max((r.max_abs / r.rms for r in results if r.rms), default=0.0)

    @property
    def outside(self) -> float:
        """The greatest share of an output's elements beyond the tolerance."""
        results = [output.difference for output in self.found.outputs]
        return max((r.mismatched / r.elements for r in results if r.elements), default=0.0)


def records() -> list[Record]:
    """The records that are kept."""
    return [Record(**entry) for entry in json.loads(RECORDS.read_text(encoding="utf-8"))]


def keep(record: Record) -> None:
    """Put a record in the place of the one of the same name."""
    kept = {entry.name: entry for entry in (records() if RECORDS.exists() else [])} | {record.name: record}
    entries = [dataclasses.asdict(kept[name]) for name in sorted(kept)]
    RECORDS.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def verify_model(folder: Path, say: Callable[[str], None]) -> Record:
    """Compile the model in `folder` once, and judge its outputs at every binding."""
    path = folder / "model.onnx"
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    compiled = dlc.compile(path, cache=False)
    say(f"compiled in {time.perf_counter() - start:.1f} s")
    dtypes = {spec.name: spec.dtype for spec in model_inputs(load_model(path))}
    run = runner(compiled)
    found = []
    for number, inputs in enumerate(sorted(folder.glob("inputs-*.npz"))):
        values = load_inputs(inputs, dtypes)
        kept = {spec.name for spec in compiled.inputs}
        actual = run({name: value for name, value in values.items() if name in kept})
        stored = folder / f"outputs-{number}.npz"
        outputs = {spec.name: spec.dtype for spec in compiled.outputs}
        against = load_inputs(stored, outputs) if stored.exists() else None
        found.append(_judged(path, values, actual, against, say))
        gc.collect()
    report = compiled.report()
    compiled.close()
    exact = [output for outcome in found for output in outcome.found.outputs]
    stages = [outcome.stages for outcome in found if outcome.stages is not None]
    return Record(
        folder.name,
        meta.get("family", ""),
        meta.get("exporter", ""),
        report.nodes,
        len(found),
        len(report.hosts),
        ", ".join(dict.fromkeys(outcome.judge for outcome in found)),
        all(outcome.agrees for outcome in found),
        max(outcome.difference for outcome in found),
        max(outcome.outside for outcome in found),
        _largest(output.ours_to_float64 for output in exact),
        _largest(output.theirs_to_float64 for output in exact),
        [min(s.equal for s in stages), min(s.within_a_step for s in stages)] if stages else None,
        bool(meta.get("trained")),
    )


def _largest(distances: Iterable[float | None]) -> float | None:
    return max((distance for distance in distances if distance is not None), default=None)


def _judged(
    path: Path,
    values: Mapping[str, Any],
    actual: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
    say: Callable[[str], None],
) -> _Outcome:
    """What the first judge says that agrees, or else the first; float64, which takes longest, comes last."""

    def verified(judge: str, **options: Any) -> _Outcome:
        found = dlc.verify(path, model=lambda _: actual, inputs=values, **options)
        say(f"{judge}: {found}")
        return _Outcome(judge, found, found.agrees)

    if stored is not None:
        return verified("stored outputs", against=stored, float64=False)
    first = verified("onnxruntime", float64=False)
    if first.agrees:
        return first
    model = load_model(path)
    if work_of(model) is Work.QUANTIZED_MODEL:
        stages = compare_stages(model, values)
        say(f"between roundings: {stages}")
        if stages is not None and stages.agree:
            return _Outcome("onnxruntime between roundings", first.found, True, stages)
    last = verified("float64", float64=True)
    return last if last.agrees else first

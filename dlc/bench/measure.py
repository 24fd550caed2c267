"""Runs the cases of a plan: every engine in its own process, then rounds that alternate between them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlc.bench.adapters import adapter
from dlc.bench.arrays import Array, Manifest, load_arrays, save_arrays
from dlc.bench.machine import machine_facts
from dlc.bench.process import WorkerFailure, WorkerProcess
from dlc.bench.results import BenchReport, CaseResult, EngineResult
from dlc.errors import InputError
from dlc.options import ShapeSpec
from dlc.verify.compare import compare_arrays
from dlc.verify.inputs import InputSpec, load_inputs, model_inputs, random_inputs
from dlc.verify.tolerances import tolerance
from dlc.verify.verification import load_model, model_label, typical_extents, work_of

#: Calls before the clock counts: seconds and least number.
_WARM_UP = (0.2, 3)
#: Least calls in a round, however short its share of the time is.
_LEAST_CALLS = 3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BenchPlan:
    """What to measure: each model with each thread count and batch, dlc (`engines[0]`) against the others.

    `seconds` is the time an engine gets on one case, divided over `rounds`. `bindings` gives extents to
    symbols or shapes to inputs; `batches` binds the first symbol of axis 0 in turn. `inputs` is an .npz
    file instead of random values. `options` go to `dlc.compile`. `timeout` bounds each step of an engine,
    in seconds.
    """

    models: Sequence[Path]
    engines: Sequence[str] = ("dlc", "onnxruntime")
    threads: Sequence[int] = (1,)
    batches: Sequence[int | None] = (None,)
    bindings: Mapping[str, ShapeSpec] = field(default_factory=dict)
    seconds: float = 3.0
    rounds: int = 7
    seed: int = 0
    inputs: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in self.engines:
            adapter(name)
        if len(set(self.engines)) < len(self.engines):
            raise InputError("an engine is named twice", code="input/option")
        if self.rounds < 1 or self.seconds <= 0 or min(self.threads, default=0) < 1:
            raise InputError("rounds, seconds and threads must be positive", code="input/option")


def measure(plan: BenchPlan, progress: Progress = lambda message: None) -> BenchReport:
    """Carry out the plan. Engines that fail are part of the report; unreadable models raise."""
    cases = []
    for path in plan.models:
        specs = input_specs(path)
        for batch in plan.batches:
            inputs = case_inputs(plan, specs, batch)
            for threads in plan.threads:
                progress(f"{model_label(path)}, {threads} thread{'s' if threads > 1 else ''}")
                cases.append(_measure_case(plan, path, threads, inputs, progress))
    settings = {
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "options": dict(plan.options),
    }
    return BenchReport(machine_facts(), settings, tuple(cases))


def input_specs(path: Path) -> list[InputSpec]:
    """The inputs of an ONNX file or a package."""
    if path.suffix != ".dlc":
        return model_inputs(load_model(path))
    import dlc

    return [InputSpec(spec.name, np.dtype(spec.dtype), tuple(spec.shape)) for spec in dlc.load(path).inputs]


def case_inputs(plan: BenchPlan, specs: Sequence[InputSpec], batch: int | None) -> dict[str, Array]:
    """The arrays that all engines get. Raises InputError if `batch` is given and no dim can take it."""
    if plan.inputs is not None:
        return load_inputs(plan.inputs)
    bindings = typical_extents(plan.bindings, {spec.name for spec in specs})
    if batch is not None:
        symbols = [dim for spec in specs for dim in spec.shape[:1] if isinstance(dim, str)]
        if not symbols:
            hint = "leave the batch out"
            raise InputError("no input has a symbolic batch dim", hint=hint, code="input/option")
        bindings[symbols[0]] = batch
    return random_inputs(specs, plan.seed, bindings)


@dataclass
class _Run:
    """An engine's process and what it measured so far."""

    worker: WorkerProcess
    reply: dict[str, Any]
    outputs: dict[str, Array]
    medians: list[float] = field(default_factory=list)
    calls: int = 0

    def time(self, seconds: float) -> None:
        """One round: the median of its calls."""
        durations = self.worker.ask(do="time", seconds=seconds, least=_LEAST_CALLS)["nanoseconds"]
        self.medians.append(statistics.median(durations) * 1e-9)
        self.calls += len(durations)


def _measure_case(
    plan: BenchPlan, path: Path, threads: int, inputs: Mapping[str, Array], progress: Progress
) -> CaseResult:
    engines = plan.engines[:1] if path.suffix == ".dlc" else plan.engines  # others cannot read a package
    failures: dict[str, str] = {}
    runs: dict[str, _Run] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlc-bench-")))
        manifest = save_arrays(folder / "inputs", inputs)
        for engine in engines:
            worker = stack.enter_context(WorkerProcess(engine, threads, plan.timeout))
            try:
                runs[engine] = _load(plan, worker, path, threads, folder, manifest)
            except WorkerFailure as error:
                failures[engine] = error.message
                progress(f"  {error.message}")
                worker.close()
        for order in _rotations(list(runs), plan.rounds):
            for engine in order:
                if engine not in failures:
                    try:
                        runs[engine].time(plan.seconds / plan.rounds)
                    except WorkerFailure as error:
                        failures[engine] = error.message
        results = [_result(plan, engine, runs, failures, path) for engine in engines]
    shapes = {name: array.shape for name, array in inputs.items()}
    return CaseResult(model_label(path), threads, shapes, tuple(results))


def _load(
    plan: BenchPlan, worker: WorkerProcess, path: Path, threads: int, folder: Path, manifest: Manifest
) -> _Run:
    """Load the model, make the first call, keep the outputs and warm up."""
    options = dict(plan.options) if worker.engine == "dlc" else {}
    reply = worker.ask(
        do="load", engine=worker.engine, model=str(path.resolve()), threads=threads, options=options
    )
    reply |= worker.ask(do="inputs", folder=str(folder / "inputs"), manifest=manifest)
    answer = worker.ask(do="outputs", folder=str(folder / worker.engine))
    worker.ask(do="time", seconds=_WARM_UP[0], least=_WARM_UP[1])
    return _Run(worker, reply, load_arrays(folder / worker.engine, answer["manifest"]))


def _rotations(engines: list[str], rounds: int) -> Iterator[list[str]]:
    """The order of the engines in each round; each goes first in turn."""
    for index in range(rounds):
        first = index % len(engines) if engines else 0
        yield engines[first:] + engines[:first]


def _result(
    plan: BenchPlan, engine: str, runs: Mapping[str, _Run], failures: Mapping[str, str], path: Path
) -> EngineResult:
    if engine in failures:
        return EngineResult(engine, error=failures[engine])
    run = runs[engine]
    ours = runs.get(plan.engines[0])
    return EngineResult(
        engine=engine,
        version=run.reply["version"],
        round_medians=tuple(run.medians),
        calls=run.calls,
        load_seconds=run.reply["load_seconds"],
        first_seconds=run.reply["first_seconds"],
        base_bytes=run.reply["base_bytes"],
        peak_bytes=run.worker.ask(do="memory")["peak_bytes"],
        agrees=None if ours is None or ours is run else _agree(path, ours.outputs, run.outputs),
    )


def _agree(path: Path, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    """Whether the outputs of two engines match within the table of tolerances."""
    work = work_of(None if path.suffix == ".dlc" else load_model(path))
    return len(ours) == len(theirs) and all(
        compare_arrays(name, actual, expected, tolerance(expected.dtype, work)).agrees
        for (name, actual), expected in zip(ours.items(), theirs.values())
    )

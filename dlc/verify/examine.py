"""What is wrong with a compilation, as one symptom: a wrong answer, an error, a crash, or too long a time.

Fuzzing looks for models with a symptom; reduction keeps the symptom while the model shrinks. Other engines
decide: a model that they cannot run, or on which they disagree, tells nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import Error, LimitError, ResourceError, UnsupportedError, printable
from dlc.verify.compare import Value
from dlc.verify.engines import Values
from dlc.verify.isolate import Ending, Failure, Outcome, describe_failure, isolated, tell
from dlc.verify.judges import JUDGES, Judge, exactly
from dlc.verify.result import Verdict
from dlc.verify.tolerances import is_float
from dlc.verify.verification import judge, work_of

if TYPE_CHECKING:
    import onnx


class Kind(Enum):
    """What can be wrong."""

    WRONG = "wrong answer"
    DOUBTFUL = "differs from the only engine"
    UNSTABLE = "other bits when run again"
    LENIENT = "accepts what other engines refuse"
    ERROR = "error"
    CRASH = "crash"
    TOO_LONG = "too long"


class Finished(Enum):
    """How an examination without a symptom ended."""

    AGREES = "agrees"
    UNSUPPORTED = "unsupported"
    LIMITED = "a limit or memory"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused with a typed error"


@dataclass(frozen=True)
class Symptom:
    """What is wrong. Two are the same fault, as far as one can tell, when kind and mark are equal."""

    kind: Kind
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}"

    def is_like(self, other: Symptom | None) -> bool:
        """Whether `other` may be the same fault."""
        return other is not None and (self.kind, self.mark) == (other.kind, other.mark)


@dataclass(frozen=True)
class Examination:
    """The symptom, or how the examination ended without one; `notes` names operators or reasons."""

    symptom: Symptom | None
    finished: Finished
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The examination as JSON-compatible data."""
        symptom = None
        if self.symptom is not None:
            symptom = {**asdict(self.symptom), "kind": self.symptom.kind.value}
        return {"symptom": symptom, "finished": self.finished.value, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Examination:
        """The inverse of :meth:`to_dict`."""
        given = data["symptom"]
        symptom = None if given is None else Symptom(**{**given, "kind": Kind(given["kind"])})
        return cls(symptom, Finished(data["finished"]), tuple(data["notes"]))


def examine_isolated(
    model: onnx.ModelProto,
    inputs: Sequence[Values],
    *,
    options: Mapping[str, Any] | None = None,
    judges: Sequence[str] = tuple(JUDGES),
    seconds: float = 60,
    refusals: bool = False,
) -> Examination:
    """:func:`examine` in a child process, whose death or delay is a symptom, too."""

    def child(ours: bool) -> Examination:
        if not ours:
            return judge_alone(model, inputs, judges)
        return examine(model, inputs, options=options, judges=judges, refusals=refusals)

    return in_child(child, seconds=seconds)


def in_child(
    child: Callable[[bool], Examination], *, seconds: float = 60, memory: int = 4 << 30
) -> Examination:
    """What `child` finds in a process of its own; its death is dlc's fault, unless a judge dies alone, too.

    The argument of `child` says whether dlc takes part. A judge that dies only after dlc has run dies of
    memory that dlc damaged.
    """

    def outcome(ours: bool) -> Outcome:
        return isolated(lambda: child(ours).to_dict(), seconds=seconds, memory=memory)

    found = outcome(ours=True)
    stage = _last_stage(found)
    match found.ending:
        case Ending.RETURNED:
            return Examination.from_dict(found.value)
        case Ending.RAISED if found.error is not None:
            return Examination(error_symptom(found.error), Finished.INCONCLUSIVE)
        case Ending.TOO_LONG if stage in _OURS:
            return Examination(Symptom(Kind.TOO_LONG, stage, stage), Finished.INCONCLUSIVE)
        case Ending.DIED if stage in _OURS:
            symptom = Symptom(Kind.CRASH, str(found.signal), f"{found} in {stage}")
            return Examination(symptom, Finished.INCONCLUSIVE)
        case Ending.DIED if stage.startswith(_JUDGE) and outcome(ours=False).ending is Ending.RETURNED:
            symptom = Symptom(Kind.CRASH, "memory", f"{found} in {stage}, which lives where dlc has not run")
            return Examination(symptom, Finished.INCONCLUSIVE)
    return Examination(None, Finished.INCONCLUSIVE, (f"{stage or 'the child'} {found}",))


#: Starts the lines that tell a parent what a child was at.
_STAGE = "examining: "
#: The stages that dlc alone answers for, and the start of those of a judge.
_OURS, _JUDGE = ("compile", "run"), "judge "


def stage(name: str) -> None:
    """Tell the parent of this process, if any, what comes next."""
    tell(_STAGE + name)


def _last_stage(outcome: Outcome) -> str:
    lines = (line for line in reversed(outcome.output.splitlines()) if line.startswith(_STAGE))
    return next(lines, _STAGE).removeprefix(_STAGE)


def examine(
    model: onnx.ModelProto,
    inputs: Sequence[Values],
    *,
    options: Mapping[str, Any] | None = None,
    judges: Sequence[str] = tuple(JUDGES),
    refusals: bool = False,
) -> Examination:
    """Compile `model`, run it on each of `inputs` and compare with the judges.

    The first inputs are those that the model must run on; further ones may be refused, but then by all
    engines. An answer is wrong when all judges contradict it. Without judges, errors and other bits of a
    second run are the only symptoms. `options` are those of `dlc.compile`. That dlc does not support the
    model, or that it exceeds a limit, is a symptom with `refusals` only.
    """
    try:
        return _Subject(model, dict(options or {}), judges).examine(inputs)
    except UnsupportedError as error:
        failure = describe_failure(error)
        reasons = tuple(sorted({f"{found.operator}: {found.reason}" for found in error.findings}))
        found = Examination(None, Finished.UNSUPPORTED, reasons or (error.message,))
    except (LimitError, ResourceError) as error:
        failure = describe_failure(error)
        found = Examination(None, Finished.LIMITED, (error.message,))
    return replace(found, symptom=error_symptom(failure)) if refusals else found


def judge_alone(
    model: onnx.ModelProto, inputs: Sequence[Values], judges: Sequence[str] = tuple(JUDGES)
) -> Examination:
    """What :func:`examine` does without dlc: see whether the judges survive."""
    subject = _Subject(model, {}, judges)
    for values in inputs:
        subject.answers(values)
    return Examination(None, Finished.AGREES)


class _Subject:
    """A model under examination, with the engines made once."""

    def __init__(self, model: onnx.ModelProto, options: dict[str, Any], judges: Sequence[str]) -> None:
        self.model = model
        self.options = options
        self.judges = judges
        self.work = work_of(model)

    @functools.cached_property
    def _engines(self) -> list[Judge]:
        return [Judge(name, self.model) for name in self.judges]

    def examine(self, inputs: Sequence[Values]) -> Examination:
        """Compile and run on each of `inputs`, up to the first symptom."""
        from dlc.api.compile import Hooks, build
        from dlc.api.load import cpu_artifact
        from dlc.api.model import CompiledModel
        from dlc.options import Options

        stage("compile")
        options = Options(**{"cache": False, **self.options})
        try:
            artifact = build(self.model.SerializeToString(), options, lambda _: None, Hooks())
            compiled = CompiledModel(cpu_artifact(artifact), threads=options.threads, poison=True)
        except (UnsupportedError, LimitError, ResourceError):
            raise
        except Exception as error:
            return self._refused(error, inputs[0] if inputs else {})
        last = Examination(None, Finished.AGREES)
        with compiled:
            for number, values in enumerate(inputs):
                found = self._run(compiled, values, must_run=number == 0)
                if found.symptom is not None:
                    return found
                if found.finished is not Finished.AGREES:
                    last = found
        return last

    def _run(self, compiled: Any, values: Values, must_run: bool) -> Examination:
        """Run twice and compare."""
        stage("run")
        names = [spec.name for spec in compiled.outputs]
        try:
            ours = list(compiled(dict(values)))
            again = list(compiled(dict(values)))
        except (UnsupportedError, LimitError, ResourceError):
            raise
        except Exception as error:
            return self._refused(error, values, must_run)
        for name, one, two in zip(names, ours, again, strict=True):
            if _bytes(one) != _bytes(two):
                symptom = Symptom(Kind.UNSTABLE, "", f"output {printable(name)} differs")
                return Examination(symptom, Finished.INCONCLUSIVE)
        return self._compare(dict(zip(names, ours, strict=True)), values)

    def answers(self, values: Values) -> tuple[list[tuple[str, dict[str, Value]]], int]:
        """The outputs of each judge that can run the model, and how many refuse only these inputs."""
        answers, refusals = [], 0
        for engine in self._engines:
            stage(_JUDGE + engine.name)
            try:
                answers.append((engine.name, engine.run(values)))
            except UnsupportedError:
                refusals += engine.has_run
        return answers, refusals

    def _refused(self, error: Exception, values: Values, must_run: bool = True) -> Examination:
        """An error is a symptom where all judges run the model alike, or where it is dlc's own bug.

        Unless the model `must_run` on these values, they have to run it as a whole, and dlc has to when it
        knows the extents at compile time: engines are more lenient than the standard about some operands.
        """
        failure = describe_failure(error)
        symptom = Examination(error_symptom(failure), Finished.INCONCLUSIVE)
        if failure.code in (None, "internal") or not self.judges:
            return symptom
        answers, refusals = self.answers(values)
        if refusals or not (must_run or all(engine.as_whole for engine in self._engines)):
            return Examination(None, Finished.AGREES)
        if len(answers) < len(self.judges):
            return Examination(None, Finished.INCONCLUSIVE, ("refused, and not every judge runs it",))
        first = answers[0][1]
        others = [other for _, other in answers[1:]]
        if any(self._differences(name, other[name], first[name]) for other in others for name in first):
            return Examination(None, Finished.INCONCLUSIVE, ("refused, and the judges disagree",))
        if not must_run and not self._runs_with_static_extents(values):
            return Examination(None, Finished.AGREES)
        return symptom

    def _runs_with_static_extents(self, values: Values) -> bool:
        """Whether dlc runs the model when it is compiled for the extents of `values`."""
        from dlc.api import compile as compile_model

        stage("compile")
        shapes = {name: value.shape for name, value in values.items() if isinstance(value, np.ndarray)}
        options = {"cache": False, **self.options, "shapes": shapes}
        try:
            with compile_model(self.model.SerializeToString(), **options) as compiled:
                compiled(dict(values))
        except Error:
            return False
        return True

    def _compare(self, ours: dict[str, Value], values: Values) -> Examination:
        """Compare with the judges; one that agrees acquits, two that differ decide nothing."""
        if not self.judges:
            return Examination(None, Finished.AGREES)
        answers, refusals = self.answers(values)
        if not answers:
            if _is_empty(values):  # engines have no shapes for much that needs no elements
                return Examination(None, Finished.INCONCLUSIVE, ("no engine runs it without elements",))
            if refusals == len(self.judges):
                return Examination(Symptom(Kind.LENIENT, "", "on other extents"), Finished.INCONCLUSIVE)
            return Examination(None, Finished.INCONCLUSIVE, ("no engine runs the model",))
        doubtful: list[str] = []
        for name, value in ours.items():
            results = [self._differences(name, value, answer[name]) for _, answer in answers]
            if any(not found for found in results):
                continue
            if len(answers) > 1 and self._differences(name, answers[0][1][name], answers[1][1][name]):
                doubtful.append(name)
                continue
            if self._is_close(name, value, answers[0][1][name], values):
                continue
            if len(answers) < len(self.judges):  # one engine alone may be the one that is wrong
                doubtful.append(name)
                continue
            symptom = self._contradicted(name, results[0])
            # On infinities, NaN and tensors without elements one engine alone may well be wrong.
            if symptom.kind is Kind.DOUBTFUL and (not _is_finite(values) or _is_empty(values)):
                doubtful.append(name)
                continue
            return Examination(symptom, Finished.INCONCLUSIVE)
        if doubtful:
            notes = (f"the judges disagree, or one is missing, about {', '.join(map(printable, doubtful))}",)
            return Examination(None, Finished.INCONCLUSIVE, notes)
        return Examination(None, Finished.AGREES)

    def _contradicted(self, name: str, difference: str) -> Symptom:
        """An output that all judges contradict; doubtful where one of them has run some node for all."""
        alone = sorted(set[str]().union(*(engine.substituted for engine in self._engines)))
        if alone and len(self._engines) > 1:
            text = f"output {printable(name)} (one judge ran {printable(', '.join(alone))}): {difference}"
            return Symptom(Kind.DOUBTFUL, "", text)
        against = " and ".join(engine.name for engine in self._engines)
        return Symptom(Kind.WRONG, "", f"output {printable(name)} differs from {against}: {difference}")

    def _differences(self, name: str, actual: Value, expected: Value, exact: Value = None) -> str:
        """What differs between two engines' values of an output; empty when nothing does."""
        for result in judge(name, actual, expected, exact, self.work):
            found = result.difference
            if result.verdict is Verdict.DIFFERS:
                if found.problem is not None:
                    return found.problem
                return f"{found.mismatched} of {found.elements} elements, worst {found.worst_values}"
        return ""

    def _is_close(self, name: str, actual: Value, expected: Value, values: Values) -> bool:
        """Whether float64 says that the difference is rounding."""
        stage(_JUDGE + "float64")
        exact = exactly(self.model, values) or {}
        return name in exact and not self._differences(name, actual, expected, exact[name])


def error_symptom(failure: Failure) -> Symptom:
    """An error as a symptom; its class, code and place mark it."""
    mark = f"{failure.kind}/{failure.code}/{failure.place}"
    return Symptom(Kind.ERROR, mark, str(failure))


def _is_finite(values: Values) -> bool:
    """Whether no element is infinite or NaN."""
    arrays = [value for value in values.values() if isinstance(value, np.ndarray) and is_float(value.dtype)]
    return all(np.isfinite(array.astype(np.complex128)).all() for array in arrays)


def _is_empty(values: Values) -> bool:
    """Whether a tensor has no elements."""
    return any(isinstance(value, np.ndarray) and not value.size for value in values.values())


def _bytes(value: Any) -> bytes:
    """All of a value's bits."""
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()

"""What is wrong with a compilation, as one symptom: a wrong answer, an error, a crash, or too long a time.

Fuzzing looks for models with a symptom; reduction keeps the symptom while the model shrinks. Other engines
decide: a model that they cannot run, or on which they disagree, tells nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import LimitError, ResourceError, UnsupportedError, printable
from dlc.verify.compare import Value
from dlc.verify.engines import Engine, Float64, OnnxRuntime, Reference, Values
from dlc.verify.isolate import Ending, Failure, Outcome, describe_failure, isolated
from dlc.verify.result import Verdict
from dlc.verify.verification import judge, work_of

if TYPE_CHECKING:
    import onnx

#: The engines that decide, in the order in which they are asked.
JUDGES: Mapping[str, Any] = {
    "onnxruntime": functools.partial(OnnxRuntime, threads=1),
    "reference": Reference,
}


class Kind(Enum):
    """What can be wrong."""

    WRONG = "wrong answer"
    UNSTABLE = "other bits when run again"
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

    def child() -> dict[str, Any]:
        found = examine(model, inputs, options=options, judges=judges, refusals=refusals)
        return found.to_dict()

    return examination_of(isolated(child, seconds=seconds))


def examination_of(outcome: Outcome) -> Examination:
    """The examination that a child made, or what its end says: a judge's death is no fault of dlc's."""
    stage = next((line for line in reversed(outcome.output.splitlines()) if line.startswith(_STAGE)), _STAGE)
    in_dlc = stage.removeprefix(_STAGE) in ("compile", "run")
    match outcome.ending:
        case Ending.RETURNED:
            return Examination.from_dict(outcome.value)
        case Ending.RAISED if outcome.error is not None:
            return Examination(error_symptom(outcome.error), Finished.INCONCLUSIVE)
        case Ending.DIED if in_dlc:
            symptom = Symptom(Kind.CRASH, str(outcome.signal), f"{outcome} in {stage.removeprefix(_STAGE)}")
            return Examination(symptom, Finished.INCONCLUSIVE)
        case Ending.TOO_LONG if in_dlc:
            stage = stage.removeprefix(_STAGE)
            return Examination(Symptom(Kind.TOO_LONG, stage, stage), Finished.INCONCLUSIVE)
        case _:
            return Examination(None, Finished.INCONCLUSIVE, (f"a judge {outcome}",))


#: Starts the lines that tell a parent what a child was at.
_STAGE = "examining: "


def _stage(name: str) -> None:
    print(_STAGE + name, file=sys.stderr, flush=True)


def examine(
    model: onnx.ModelProto,
    inputs: Sequence[Values],
    *,
    options: Mapping[str, Any] | None = None,
    judges: Sequence[str] = tuple(JUDGES),
    refusals: bool = False,
) -> Examination:
    """Compile `model`, run it on each of `inputs` and compare with the judges.

    The first inputs are those that the model must run on; further ones may be refused by all engines. An
    answer is wrong when all judges run the model and contradict it. Without
    judges, errors and other bits of a second run are the only symptoms. `options` are those of `dlc.compile`.
    That dlc does not support the model, or that it exceeds a limit, is a symptom with `refusals` only.
    """
    try:
        return _Subject(model, dict(options or {}), judges).examine(inputs)
    except UnsupportedError as error:
        failure = describe_failure(error)
        operators = tuple(sorted({found.operator for found in error.findings}))
        found = Examination(None, Finished.UNSUPPORTED, operators)
    except (LimitError, ResourceError) as error:
        failure = describe_failure(error)
        found = Examination(None, Finished.LIMITED, (error.message,))
    return replace(found, symptom=error_symptom(failure)) if refusals else found


class _Subject:
    """A model under examination, with the engines made once."""

    def __init__(self, model: onnx.ModelProto, options: dict[str, Any], judges: Sequence[str]) -> None:
        self.model = model
        self.options = options
        self.judges = judges
        self.work = work_of(model)

    def examine(self, inputs: Sequence[Values]) -> Examination:
        from dlc.api.compile import Hooks, build
        from dlc.api.model import CompiledModel
        from dlc.options import Options

        _stage("compile")
        options = Options(**{"cache": False, **self.options})
        try:
            artifact = build(self.model.SerializeToString(), options, lambda _: None, Hooks())
            compiled = CompiledModel(artifact, threads=options.threads, poison=True)
        except (UnsupportedError, LimitError, ResourceError):
            raise
        except Exception as error:
            return self._refused(error, inputs[0])
        last = Examination(None, Finished.AGREES)
        with compiled:
            for number, values in enumerate(inputs):
                found = self._run(compiled, values, number > 0)
                if found.symptom is not None:
                    return found
                if found.finished is not Finished.AGREES:
                    last = found
        return last

    def _run(self, compiled: Any, values: Values, optional: bool) -> Examination:
        """Run and compare once."""
        _stage("run")
        names = [spec.name for spec in compiled.outputs]
        try:
            ours = list(compiled(dict(values)))
            again = list(compiled(dict(values)))
        except (UnsupportedError, LimitError, ResourceError):
            raise
        except Exception as error:
            found = self._refused(error, values)
            refused = optional and found.symptom is None
            return Examination(None, Finished.AGREES) if refused else found
        for name, one, two in zip(names, ours, again, strict=True):
            if _bytes(one) != _bytes(two):
                return Examination(
                    Symptom(Kind.UNSTABLE, "", f"output {printable(name)} differs"), Finished.INCONCLUSIVE
                )
        return self._compare(dict(zip(names, ours, strict=True)), values)

    def _refused(self, error: Exception, values: Values) -> Examination:
        """An error is a symptom where all judges run the model alike, or where it is dlc's own bug."""
        failure = describe_failure(error)
        if failure.code in (None, "internal") or not self.judges or self._all_agree(values):
            return Examination(error_symptom(failure), Finished.INCONCLUSIVE)
        return Examination(None, Finished.INCONCLUSIVE, ("refused, and not every judge runs it",))

    def _answers(self, values: Values) -> list[tuple[str, dict[str, Value]]]:
        """The outputs of each judge that can run the model."""
        answers = []
        for name in self.judges:
            _stage(f"judge {name}")
            try:
                engine: Engine = JUDGES[name](self.model)
                answers.append((name, engine.run(values)))
            except UnsupportedError:
                continue
        return answers

    def _all_agree(self, values: Values) -> bool:
        """Whether every judge runs the model and they give the same."""
        answers = [outputs for _, outputs in self._answers(values)]
        first = answers[0] if answers else {}
        return len(answers) == len(self.judges) and not any(
            self._differences(name, other[name], first[name]) for other in answers[1:] for name in first
        )

    def _compare(self, ours: dict[str, Value], values: Values) -> Examination:
        """Compare with the judges; one that agrees acquits, two that differ decide nothing."""
        if not self.judges:
            return Examination(None, Finished.AGREES)
        answers = self._answers(values)
        if not answers:
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
            against = " and ".join(judge_name for judge_name, _ in answers)
            text = f"output {printable(name)} differs from {against}: {results[0]}"
            return Examination(Symptom(Kind.WRONG, "", text), Finished.INCONCLUSIVE)
        if doubtful:
            notes = (f"the judges disagree, or one is missing, about {', '.join(map(printable, doubtful))}",)
            return Examination(None, Finished.INCONCLUSIVE, notes)
        return Examination(None, Finished.AGREES)

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
        _stage("judge float64")
        try:
            exact = Float64(self.model).run(values)
        except UnsupportedError:
            return False
        return not self._differences(name, actual, expected, exact.get(name))


def error_symptom(failure: Failure) -> Symptom:
    """An error as a symptom; its class, code and place mark it."""
    mark = f"{failure.kind}/{failure.code}/{failure.place}"
    return Symptom(Kind.ERROR, mark, str(failure))


def _bytes(value: Any) -> bytes:
    """All of a value's bits."""
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()

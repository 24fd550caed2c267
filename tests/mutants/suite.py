"""A fast search for faults: every specimen compiled, run in several ways, and compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

import dlc
from dlc.verify.compare import compare_arrays
from dlc.verify.engines import OnnxRuntime
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.model_zoo import bits, variant
from tests.helpers.recipes import Array
from tests.mutants.specimens import Specimen, all_specimens

#: float32 results of a specimen agree to this: a few operators deep, less than a whole model.
WORK = Work.RECURRENT


@dataclass(frozen=True)
class Trial:
    """A specimen with the right answers for each of its inputs."""

    specimen: Specimen
    answers: tuple[Mapping[str, Array], ...]


def prepare(names: tuple[str, ...] = ()) -> list[Trial]:
    """The trials, with answers from onnxruntime."""
    trials = []
    for specimen in all_specimens(names):
        engine = OnnxRuntime(specimen.model, threads=1)
        trials.append(Trial(specimen, tuple(engine.run(feeds) for feeds in specimen.feeds)))  # type: ignore[arg-type]
    return trials


def search(trials: Iterable[Trial], first: str = "") -> str | None:
    """What the first trial that fails has to say; None if all pass. That of specimen `first` goes first."""
    for trial in sorted(trials, key=lambda trial: trial.specimen.name != first):
        try:
            check(trial)
        except AssertionError as failure:
            return f"{trial.specimen.name}: {failure}"
        except dlc.Error as error:
            return f"{trial.specimen.name}: {type(error).__name__}: {error}"
    return None


def check(trial: Trial) -> None:
    """Compile a specimen; run it on one and on three threads, at all bindings and at the first once more."""
    specimen = trial.specimen
    with (
        dlc.compile(specimen.model, cache=False, threads=3) as native,
        variant(native, threads=1, poison=True) as alone,
    ):
        order = [*range(len(specimen.feeds)), 0]
        for index in order:
            feeds = {name: array.copy() for name, array in specimen.feeds[index].items()}
            outputs = alone(feeds)
            assert bits(native(feeds)) == bits(outputs), f"threads differ at binding {index}"
            _compare(outputs, trial.answers[index], f"binding {index}")
            assert all(
                np.array_equal(feeds[name], array, equal_nan=array.dtype.kind == "f")
                for name, array in specimen.feeds[index].items()
            ), "an input was changed"
        for feeds, error in specimen.refused:
            _refused(alone, feeds, error)


def _compare(outputs: dlc.Outputs, answers: Mapping[str, Array], where: str) -> None:
    for name, answer in answers.items():
        difference = compare_arrays(name, outputs[name], answer, tolerance(answer.dtype, WORK))
        assert difference.agrees, (
            f"{name} at {where}: {difference.worst} {difference.worst_values} {difference.problem}"
        )


def _refused(native: dlc.CompiledModel, feeds: Mapping[str, Array], error: str) -> None:
    try:
        native(dict(feeds))
    except dlc.Error as caught:
        assert type(caught).__name__ == error, f"{type(caught).__name__} instead of {error}: {caught}"
        return
    raise AssertionError(f"no {error}")

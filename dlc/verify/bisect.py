"""Finding the first place where an answer goes wrong: `dlc verify --bisect` and `dlc.verify(bisect=True)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dlc.errors import InternalError, UnsupportedError
from dlc.options import Options
from dlc.verify.bisection.report import BisectionReport, Culprit, Level
from dlc.verify.bisection.subject import Counted, Subject, prepare
from dlc.verify.engines import Values

T = TypeVar("T")


def bisect(
    source: Any,
    inputs: Mapping[str, Any],
    *,
    options: Options | None = None,
    skip: tuple[str, ...] = (),
    expected: Values | None = None,
    exact: Values | None = None,
    progress: Callable[[str], None] | None = None,
) -> BisectionReport:
    """Compare each two neighbouring meanings of a model on `inputs`, and name the first two that disagree.

    source    an ONNX file, its bytes or a ModelProto
    inputs    arrays by ONNX name
    options   those of the compilation; its first target's code is run on this machine
    skip      names of passes to leave out
    expected  another engine's outputs by name: the imported graph is compared with them first
    exact     outputs in float64 by name, the judge of that comparison
    progress  called with each level's name as it begins

    Levels are run in the order of :class:`Level`; the first difference ends the search. Every level works on
    the same inputs, so a fault that they do not show is not found. Raises what `dlc.compile` raises, and
    UnsupportedError for a model with random results.
    """
    from dlc.api.compile import refuse_unavailable
    from dlc.verify.verification import load_model, model_label

    options = options or Options()
    refuse_unavailable(options)
    subject = Subject(source, options, inputs, skip)
    proto = load_model(source)
    name = model_label(Path(source)) if isinstance(source, str | Path) else proto.graph.name
    search = _Search(progress or (lambda _: None))
    culprit = search.run(subject, proto, expected, exact or {})
    return BisectionReport(name, culprit, tuple(search.checked), tuple(dict.fromkeys(search.notes)))


class _Search:
    """The levels in order, and what they compared."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress = progress
        self.checked: list[tuple[Level, int]] = []
        self.notes: list[str] = []

    def level(self, level: Level, check: Callable[[Counted], Culprit | None]) -> Culprit | None:
        """Run one level; one that cannot follow this model is noted."""
        self.progress(f"comparing: {level.value}")
        counted = Counted()
        try:
            culprit = check(counted)
        except UnsupportedError as error:
            self.notes.append(f"{level.value}: {error.message}")
            return None
        self.checked.append((level, counted.count))
        self.notes += counted.notes
        return culprit

    def made(self, level: Level, make: Callable[[], T]) -> T | Culprit:
        """What `make` makes; that it fails is the first fault of `level`."""
        try:
            return make()
        except (InternalError, AttributeError, LookupError, TypeError, ValueError) as error:
            return Culprit(level, f"{level.value} fails: {type(error).__name__}: {error}")

    def run(self, subject: Subject, proto: Any, expected: Values | None, exact: Values) -> Culprit | None:
        """The first culprit."""
        from dlc.verify.bisection.code import check_code
        from dlc.verify.bisection.importing import check_import
        from dlc.verify.bisection.lowering import check_lowering
        from dlc.verify.bisection.native import compile_native, cpu_target
        from dlc.verify.bisection.passes import check_passes
        from dlc.verify.bisection.threads import check_threads

        target = cpu_target(subject.options)
        subject.import_model()  # what this raises concerns the model, not a level
        if expected is not None:
            culprit = self.level(
                Level.IMPORT, lambda counted: check_import(subject, proto, expected, exact, counted)
            )
            if culprit is not None:
                return culprit
        culprit = self.level(Level.PASS, lambda counted: check_passes(subject, counted))
        if culprit is not None:
            return culprit
        prepared = self.made(Level.LOWERING, lambda: prepare(subject))
        if isinstance(prepared, Culprit):
            return prepared
        culprit = self.level(Level.LOWERING, lambda counted: check_lowering(prepared, counted))
        if culprit is not None:
            return culprit
        native = self.made(Level.CODE, lambda: compile_native(prepared, target))
        if isinstance(native, Culprit):
            return native
        culprit = self.level(Level.CODE, lambda counted: check_code(prepared, native, counted))
        if culprit is not None:
            return culprit
        return self.level(Level.THREADS, lambda counted: check_threads(subject, prepared, native, counted))

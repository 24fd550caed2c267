"""Pipelines: lists of passes as data, to print, to shorten, and to run with checks and dumps."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from dlc.errors import InputError, InternalError, printable
from dlc.ir.graph import Graph
from dlc.ir.text import to_text
from dlc.ir.verify import verify
from dlc.passes.pass_base import Declined, Numerics, Pass, Property, Statistics

#: Receives the position and name of a pass ("03-canonicalize") and the graph's text after it.
Dump: TypeAlias = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class Report:
    """What each pass of a run did, in order, and how long it took in seconds."""

    steps: tuple[tuple[Pass, Statistics, float], ...]

    @property
    def declines(self) -> Iterator[tuple[Pass, Declined]]:
        """Every decline with its pass."""
        return ((step, decline) for step, statistics, _ in self.steps for decline in statistics.declines)

    def __str__(self) -> str:
        return "\n".join(f"{step}: {statistics}" for step, statistics, _ in self.steps)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run.

    Raises InternalError when a pass requires a property that nothing before it ensures.
    """

    passes: tuple[Pass, ...]

    def __post_init__(self) -> None:
        held: frozenset[Property] = frozenset()
        for step in self.passes:
            if missing := step.requires - held:
                wanted = ", ".join(sorted(each.name for each in missing))
                raise InternalError(f"pass {step.name} requires {wanted}, which no pass before it ensures")
            held = (held & step.keeps) | step.ensures

    def without(self, *names: str) -> Pipeline:
        """The pipeline without the passes of these names; InputError for a name that it does not have.

        A pass may then find less prepared than it requires; it stays correct, but recognises less.
        """
        known = {step.name for step in self.passes}
        for name in names:
            if name not in known:
                names_known = ", ".join(sorted(known))
                raise InputError(f"there is no pass {printable(name)!r}", hint=f"passes: {names_known}",
                                 code="input/option")
        return _Shortened(tuple(step for step in self.passes if step.name not in names))

    def limited(self, numerics: Numerics) -> Pipeline:
        """The pipeline without the passes that change results more than `numerics` permits."""
        order = list(Numerics)
        allowed = order[: order.index(numerics) + 1]
        return _Shortened(tuple(step for step in self.passes if step.numerics in allowed))

    def run(self, graph: Graph, *, check: bool = False, dump: Dump | Path | None = None) -> Report:
        """Run all passes on `graph`, in place.

        With `check` the graph is verified before the first and after each pass: InternalError names the pass
        that broke it. `dump` receives the text after each pass, or is a folder for files of it.
        """
        if check:
            verify(graph)
        steps = []
        for index, step in enumerate(self.passes):
            started = time.perf_counter()
            statistics = step.run(graph)
            steps.append((step, statistics, time.perf_counter() - started))
            if check:
                _verify_after(step, graph)
            if dump is not None:
                _write(dump, f"{index:02d}-{step.name}", to_text(graph, digests=False))
        return Report(tuple(steps))

    def __str__(self) -> str:
        """One pass a line, with its options."""
        return "\n".join(map(str, self.passes))


class _Shortened(Pipeline):
    """A pipeline from which passes were taken: what they would have ensured is forgone knowingly."""

    def __post_init__(self) -> None:
        """Requirements are not checked."""


def _verify_after(step: Pass, graph: Graph) -> None:
    try:
        verify(graph)
    except InternalError as error:
        raise InternalError(f"after pass {step.name}: {error.message}") from error


def _write(dump: Dump | Path, name: str, text: str) -> None:
    if isinstance(dump, Path):
        dump.mkdir(parents=True, exist_ok=True)
        (dump / f"{name}.ir").write_text(text, encoding="utf-8")
    else:
        dump(name, text)

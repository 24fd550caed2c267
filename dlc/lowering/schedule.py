"""A Schedule: how a kernel is run. It names a template and fills in its choices, and changes no value.

    schedule winograd {
      tile p: 4
      tile q: 4
      vector o
      parallel b: 1
      realize sum: register
      pack weight
      workspace transformed: 3456*floordiv(h + 3, 4)*floordiv(w + 3, 4)
    }

The kernel evaluator takes no schedule: that is how every schedule of a kernel can be checked against its
meaning.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping

from dlc.errors import InputError, InternalError
from dlc.ir.dims import Dim, Symbol, free_symbols, to_text as dim_text
from dlc.ir.reading import WORD, Line, read_dim
from dlc.lowering.inspect import defined_locals, stages
from dlc.lowering.kernel import AxisKind, Kernel
from dlc.lowering.text import kernel_symbols

_NUMBER = re.compile("[0-9]+")


class Place(enum.Enum):
    """Where a local lives."""

    REGISTER = "register"
    """In registers: no element of it exists outside the point that uses it."""
    WHOLE = "whole"
    """In memory, all of it."""
    PER = "per"
    """In memory, the part that belongs to one point of an axis."""
    RING = "ring"
    """In memory, the last few slices along an axis."""


@dataclasses.dataclass(frozen=True)
class Realization:
    """Where a local lives; `axis` for PER and RING, `slices` for RING."""

    place: Place
    axis: str = ""
    slices: int = 0

    def __str__(self) -> str:
        parts = [self.place.value, self.axis, str(self.slices) if self.slices else ""]
        return " ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Memory that a template needs beside the kernel's tensors, for each participant of a launch."""

    name: str
    bytes: Dim


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The choices of a template for one kernel.

    `tiles` are points of axes that are computed together; `vector` is the axis in the lanes of vectors;
    `parallel` the axis spread over cores and how many of its points make a chunk; `packed` names constant
    operands that are rearranged before the first run. All pairs are (name of an axis or local, choice).
    """

    template: str
    tiles: tuple[tuple[str, int], ...] = ()
    vector: str | None = None
    parallel: tuple[str, int] | None = None
    realize: tuple[tuple[str, Realization], ...] = ()
    packed: tuple[str, ...] = ()
    workspaces: tuple[Workspace, ...] = ()


def schedule_text(schedule: Schedule) -> str:
    """The text of `schedule`, which `parse_schedule` reads back."""
    lines = [f"schedule {schedule.template} {{"]
    lines += [f"  tile {axis}: {size}" for axis, size in schedule.tiles]
    lines += [f"  vector {schedule.vector}"] if schedule.vector is not None else []
    if schedule.parallel is not None:
        lines.append("  parallel {}: {}".format(*schedule.parallel))
    lines += [f"  realize {local}: {choice}" for local, choice in schedule.realize]
    lines += [f"  pack {param}" for param in schedule.packed]
    lines += [f"  workspace {w.name}: {dim_text(w.bytes)}" for w in schedule.workspaces]
    return "\n".join([*lines, "}"]) + "\n"


def parse_schedule(text: str, symbols: Mapping[str, Symbol]) -> Schedule:
    """The schedule that `text` denotes, its symbols looked up in `symbols`; InputError for a syntax error."""
    lines = [Line(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines) < 2 or not lines[0].accept("schedule ") or not lines[-1].accept("}"):
        raise InputError("a schedule begins with 'schedule' and ends with '}'")
    schedule = Schedule(lines[0].needed(WORD, "a template"))
    lines[0].expect("{")
    for line in lines[1:-1]:
        schedule = _with(schedule, line, symbols)
    for line in lines:
        if not line.at_end:
            raise line.fail("expected the end of the line")
    return schedule


def _with(schedule: Schedule, line: Line, symbols: Mapping[str, Symbol]) -> Schedule:
    """`schedule` with the choice of one line."""
    word, name = line.needed(WORD, "a choice"), line.needed(WORD, "a name")
    match word:
        case "vector":
            return dataclasses.replace(schedule, vector=name)
        case "pack":
            return dataclasses.replace(schedule, packed=(*schedule.packed, name))
    line.expect(":")
    match word:
        case "tile":
            return dataclasses.replace(schedule, tiles=(*schedule.tiles, (name, line.integer())))
        case "parallel":
            return dataclasses.replace(schedule, parallel=(name, line.integer()))
        case "realize":
            return dataclasses.replace(schedule, realize=(*schedule.realize, (name, _realization(line))))
        case "workspace":
            more = Workspace(name, read_dim(line, "", symbols))
            return dataclasses.replace(schedule, workspaces=(*schedule.workspaces, more))
    raise line.fail(f"there is no choice '{word}'")


def _realization(line: Line) -> Realization:
    word = line.needed(WORD, "a place")
    if word not in {place.value for place in Place}:
        raise line.fail(f"there is no place '{word}'")
    place = Place(word)
    axis = line.needed(WORD, "an axis") if place in (Place.PER, Place.RING) else ""
    return Realization(place, axis, int(line.needed(_NUMBER, "a number")) if place is Place.RING else 0)


def verify_schedule(schedule: Schedule, kernel: Kernel) -> None:
    """InternalError that lists what in `schedule` does not fit `kernel`."""
    problems = list(_problems(schedule, kernel))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InternalError(f"schedule {schedule.template} does not fit kernel {kernel.name}:\n{listed}")


def _problems(schedule: Schedule, kernel: Kernel) -> Iterator[str]:
    axes = {axis.name: axis for axis in kernel.axes}
    locals_ = {local.name: local for stage in stages(kernel.body) for local in defined_locals(stage)}
    constants = {param.name for param in kernel.params if param.constant}
    named = [axis for axis, _ in schedule.tiles]
    named += [schedule.vector] if schedule.vector is not None else []
    named += [schedule.parallel[0]] if schedule.parallel is not None else []
    for name in named:
        if name not in axes:
            yield f"there is no axis {name}"
    sizes = [*schedule.tiles, *([schedule.parallel] if schedule.parallel is not None else [])]
    for name, size in sizes:
        if size < 1:
            yield f"axis {name} is cut into pieces of {size}"
    if schedule.parallel is not None:
        spread = axes.get(schedule.parallel[0])
        if spread is not None and spread.kind is not AxisKind.PARALLEL:
            yield f"axis {spread.name} is {spread.kind.value}, and cannot be spread over cores"
    for name, choice in schedule.realize:
        local = locals_.get(name)
        if local is None:
            yield f"there is no local {name}"
        elif choice.axis and choice.axis not in local.axes:
            yield f"local {name} does not have the axis {choice.axis}"
        if choice.place is Place.RING and choice.slices < 1:
            yield f"a ring of {choice.slices} slices holds nothing"
    for name in schedule.packed:
        if name not in constants:
            yield f"{name} is no constant parameter, and cannot be packed"
    known = set(kernel_symbols(kernel))
    for workspace in schedule.workspaces:
        if not free_symbols(workspace.bytes) <= known:
            yield f"the size of {workspace.name} depends on what the kernel does not know"

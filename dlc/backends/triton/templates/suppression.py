"""Non-maximum suppression: one program an image and class.

A round takes the best box that is left, keeps it, and drops those that overlap it too much, in the same walk
over the boxes in which the next best one is found. So there are as many rounds as boxes are kept, and no
scores are sorted.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.order_keys import ascending_key
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of, workspace
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

#: Boxes that are compared at once.
BLOCK = 2048


@dataclasses.dataclass(frozen=True)
class Form:
    """The parameters by role, and the form of boxes."""

    boxes: str
    scores: str
    overlap: str
    least: str
    kept: str
    counts: str
    center_point_box: bool


def match(part: Kernel) -> Form | Declined:
    """Takes a suppression alone."""
    routine = routine_of(part, "non_max_suppression")
    if isinstance(routine, Declined):
        return routine
    boxes, scores, overlap, least, kept, counts = routine.params
    center = bool(dict(routine.attributes)["center_point_box"])
    return Form(boxes, scores, overlap, least, kept, counts, center)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """One launch; memory tells which boxes are left."""
    del target
    return _Suppression(part, form).run()


class _Suppression:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.form = form
        self.batch, self.classes, self.number = part.param(form.scores).type.shape
        self.limit = part.param(form.kept).type.shape[2]
        #: Whether a box is left; 32 bits so that threads write words of their own.
        self.left = workspace(part, "left", DType.I32, self.batch, self.classes, self.number)
        self.builder = RoutineBuilder(part, (self.left,))
        self.block = tiles.fitting(self.number, 32, BLOCK)

    def run(self) -> Launches:
        builder, form = self.builder, self.form
        row = builder.assign("row", "tl.program_id(0)")
        self.image, self.label = builder.take_apart(row, (self.batch, self.classes))
        overlap = builder.load(form.overlap)
        self._begin()
        limit = builder.dim(self.limit)
        builder.line("found = tl.full((), 0, tl.int32)")
        with builder.block(f"while (best >= 0) & (found < {limit}):"):
            builder.store("best.to(tl.int64)", form.kept, self.image, self.label, "found")
            own = self._box("best", None, "own")
            # `best` is reset before the walk that finds the next one.
            builder.line("taken = best")
            self._next(own, overlap)
            builder.line("found += 1")
        with builder.block(f"for start in range(0, {limit}, {self.block}):"):
            at = builder.assign("at", f"start + tl.arange(0, {self.block})")
            rest = builder.assign("rest", f"({at} >= found) & ({at} < {limit})")
            builder.store("tl.full((), 0, tl.int64)", form.kept, self.image, self.label, at, mask=rest)
        builder.store("found.to(tl.int64)", form.counts, self.image, self.label)
        call = self._finish()
        return Launches((call,), (self.left,))

    def _finish(self) -> Call:
        return self.builder.finish("suppression", (self.batch * self.classes,), num_warps=8)

    def _begin(self) -> None:
        """Write which boxes have a score that is great enough, and the best of them."""
        builder, form = self.builder, self.form
        least = builder.load(form.least)
        self._reset()
        with builder.block(self._loop()):
            at, inside = self._tile()
            score = builder.load(form.scores, self.image, self.label, at, mask=inside)
            left = builder.assign(
                "left", f"{inside} & (({score} > {least}) | ({least} == float('-inf')))"
            )
            builder.store(f"{left}.to(tl.int32)", self.left.name, self.image, self.label, at, mask=inside)
            self._compare(at, score, left)
        # What a thread has written others may read in the next walk.
        builder.line("tl.debug_barrier()")

    def _next(self, own: list[str], overlap: str) -> None:
        """Write the walk that drops boxes, and finds the best that remains."""
        builder, form = self.builder, self.form
        self._reset()
        with builder.block(self._loop()):
            at, inside = self._tile()
            left = builder.load(self.left.name, self.image, self.label, at, mask=inside)
            left = builder.assign("left", f"({left} != 0) & ({at} != taken)")
            box = self._box(at, left, "other")
            dropped = builder.assign("dropped", f"boxes_overlap({', '.join((*own, *box))}, {overlap})")
            left = builder.assign("left", f"{left} & ({dropped} == 0)")
            builder.store(f"{left}.to(tl.int32)", self.left.name, self.image, self.label, at, mask=inside)
            score = builder.load(form.scores, self.image, self.label, at, mask=left)
            self._compare(at, score, left)
        builder.line("tl.debug_barrier()")

    def _loop(self) -> str:
        return f"for start in range(0, {self.builder.dim(self.number)}, {self.block}):"

    def _tile(self) -> tuple[str, str]:
        at = self.builder.assign("at", f"start + tl.arange(0, {self.block})")
        return at, self.builder.assign("inside", f"{at} < {self.builder.dim(self.number)}")

    def _reset(self) -> None:
        self.builder.line("best = tl.full((), -1, tl.int32)")
        self.builder.line("best_key = tl.full((), -2147483648, tl.int32)")

    def _compare(self, at: str, score: str, left: str) -> None:
        """Write the best box so far: of equal scores the first; NaN is the worst score."""
        builder = self.builder
        key = builder.assign("key", ascending_key(DType.F32, score))
        # No number has the key of the least integer, which is below that of every number.
        key = builder.assign("key", f"tl.where({score} == {score}, {key}, -2147483647)")
        key = builder.assign("key", f"tl.where({left}, {key}, -2147483648)")
        builder.line(f"top = tl.max({key}, 0)")
        builder.line(f"place = tl.min(tl.where({left} & ({key} == top), {at}, 2147483647), 0)")
        builder.line("is_better = top > best_key")
        builder.line("best = tl.where(is_better, place, best).to(tl.int32)")
        builder.line("best_key = tl.where(is_better, top, best_key)")

    def _box(self, at: str, mask: str | None, name: str) -> list[str]:
        """Write the corners (x low, y low, x high, y high) of boxes."""
        builder = self.builder
        first, second, third, fourth = (
            builder.load(self.form.boxes, self.image, at, entry, mask=mask) for entry in range(4)
        )
        if self.form.center_point_box:
            builder.line(f"half_width, half_height = {third} / 2.0, {fourth} / 2.0")
            texts = [f"{first} - half_width", f"{second} - half_height"]
            texts += [f"{first} + half_width", f"{second} + half_height"]
        else:
            texts = [
                f"tl.{fn}imum({a}, {b}, propagate_nan=tl.PropagateNan.ALL)"
                for fn in ("min", "max")
                for a, b in ((second, fourth), (first, third))
            ]
        return [builder.assign(name, text) for text in texts]

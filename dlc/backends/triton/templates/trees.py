"""Tree ensembles: first the leaf of each row and tree, all walks at once; then the votes of a row's leaves,
tree by tree, for each target. Sums are taken in float64, in the order of the trees, as the evaluator's are.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.conversions import cast
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of, workspace
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.lowering.expr import CastMode
from dlc.lowering.kernel import Kernel
from dlc.lowering.packed_trees import COMPACT
from dlc.target import GpuTarget

_POINTS = 256
_ROLES = {
    "tree_values": ("x", "nodes", "trees", "values", "y"),
    "tree_rows": ("x", "nodes", "trees", "rows", "weight", "y"),
    "tree_votes": ("x", "nodes", "trees", "first", "target", "weight", "y"),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """The parameters by role, and the options."""

    params: dict[str, str]
    aggregate: str
    targets: int
    missing: bool


def match(part: Kernel) -> Form | Declined:
    """Takes a tree ensemble alone."""
    routine = routine_of(part, *_ROLES)
    if isinstance(routine, Declined):
        return routine
    options = dict(routine.attributes)
    targets = options["targets"]
    assert isinstance(targets, int)
    params = dict(zip(_ROLES[routine.name], routine.params, strict=True))
    return Form(params, str(options["aggregate"]), targets, bool(options["missing"]))


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """The leaves, and the votes."""
    del target
    return _Trees(part, form).run()


class _Trees:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.part = part
        self.form = form
        self.rows: Dim = part.param(form.params["x"]).type.shape[0]
        self.trees: Dim = part.param(form.params["trees"]).type.shape[0]
        self.dtype = part.param(form.params["x"]).type.dtype
        self.leaves = workspace(part, "leaves", DType.I32, self.rows, self.trees)

    def run(self) -> Launches:
        return Launches((self._walk(), self._vote()), (self.leaves,))

    # --- walks

    def _walk(self) -> Call:
        """Write the leaf that each row reaches in each tree: a step from a leaf goes nowhere."""
        builder, params = RoutineBuilder(self.part, (self.leaves,)), self.form.params
        total = self.rows * self.trees
        there = builder.points("point", total, _POINTS)
        row, tree = builder.take_apart("point", (self.rows, self.trees))
        node = builder.load(params["trees"], tree, 0, mask=there)
        steps = builder.load(params["trees"], tree, 1, mask=there)
        builder.line(f"node = {node}")
        with builder.block(f"for step in range(0, tl.max({steps}, 0)):"):
            threshold, feature, distance, flag = self._node(builder, there)
            value = builder.load(params["x"], row, feature, mask=there)
            wide = (cast(self.dtype, self._wide, CastMode.RNE, each) for each in (value, threshold))
            second = "({} <= {})".format(*wide)
            if self.form.missing:
                second = f"({second} | (({value} != {value}) & {flag}))"
            builder.line(f"second = {second} & ({distance} != 0)")
            builder.line(f"node = node + {distance} + second.to(tl.int32)")
        builder.store("node", self.leaves.name, row, tree, mask=there)
        return builder.finish("tree_leaves", (tiles.blocks(total, _POINTS),))

    @property
    def _wide(self) -> DType:
        return DType.F64 if self.dtype is DType.F64 else DType.F32

    def _node(self, builder: RoutineBuilder, mask: str) -> tuple[str, str, str, str]:
        """Write threshold, feature, distance of the first child, and where NaN goes to the second one."""
        nodes = self.form.params["nodes"]
        count = 2 if self.part.param(nodes).type.shape[1] == COMPACT else 4
        words = [builder.load(nodes, "node", entry, mask=mask) for entry in range(count)]
        if count == 2:
            feature = builder.assign("feature", f"({words[1]} & 0x7FFF).to(tl.int32)")
            distance = builder.assign("distance", f"({words[1]} >> 16).to(tl.int32)")
            flag = f"(({words[1]} & 0x8000) != 0)"
        else:
            feature = builder.assign("feature", f"({words[2]} & 0x7FFFFFFF).to(tl.int32)")
            distance = builder.assign("distance", f"{words[3]}.to(tl.int32, bitcast=True)")
            flag = f"(({words[2]} >> 31) != 0)"
        if self.dtype is DType.F64:
            bits = f"({words[0]}.to(tl.uint64) | ({words[1]}.to(tl.uint64) << 32))"
        else:
            bits = words[0]
        kind = register_type(self._wide)
        return builder.assign("threshold", f"{bits}.to({kind}, bitcast=True)"), feature, distance, flag

    # --- votes

    def _vote(self) -> Call:
        """Write the votes of the leaves of a row for one target, tree after tree."""
        builder, form = RoutineBuilder(self.part, (self.leaves,)), self.form
        total = self.rows * form.targets
        there = builder.points("point", total, _POINTS)
        row, goal = builder.take_apart("point", (self.rows, form.targets))
        start = {"sum": "0.0", "min": "float('inf')", "max": "float('-inf')"}[form.aggregate]
        builder.line(f"total = tl.full(({_POINTS},), {start}, tl.float64)")
        with builder.block(f"for tree in range(0, {builder.dim(self.trees)}):"):
            leaf = builder.load(self.leaves.name, row, "tree", mask=there)
            if "values" in form.params:
                target = builder.load(form.params["trees"], "tree", 2)
                self._add(builder, "values", (leaf,), f"{there} & ({target} == {builder.dim(goal)})")
            elif "rows" in form.params:
                votes = builder.load(form.params["rows"], leaf, mask=there)
                none = builder.dim(self.part.param(form.params["weight"]).type.shape[0] - 1)
                self._add(builder, "weight", (votes, goal), f"{there} & ({votes} != {none})")
            else:
                self._votes(builder, leaf, goal, there)
        result = f"tl.where(total == {start}, 0.0, total)"
        y = self.part.param(form.params["y"]).type.dtype
        builder.store(cast(DType.F64, y, CastMode.RNE, result), form.params["y"], row, goal, mask=there)
        return builder.finish("tree_votes", (tiles.blocks(total, _POINTS),))

    def _votes(self, builder: RoutineBuilder, leaf: str, goal: Dim, mask: str) -> None:
        """Write the votes of leaves that have any number of them."""
        params = self.form.params
        first = builder.load(params["first"], leaf, mask=mask)
        end = builder.load(params["first"], builder.assign("behind", f"{leaf} + 1"), mask=mask)
        most = builder.assign("most", f"tl.max({end} - {first}, 0).to(tl.int32)")
        with builder.block(f"for number in range(0, {most}):"):
            vote = builder.assign("vote", f"{first} + number")
            inside = builder.assign("inside", f"{mask} & ({vote} < {end})")
            target = builder.load(params["target"], vote, mask=inside)
            self._add(builder, "weight", (vote,), f"{inside} & ({target} == {builder.dim(goal)})")

    def _add(self, builder: RoutineBuilder, role: str, index: tuple[Dim | str, ...], mask: str) -> None:
        """Write that a vote counts where `mask` holds."""
        name = self.form.params[role]
        mask = builder.assign("counts", mask)
        vote = builder.load(name, *index, mask=mask)
        vote = cast(self.part.param(name).type.dtype, DType.F64, CastMode.RNE, vote)
        combined = {
            "sum": f"total + {vote}",
            "min": f"tl.minimum(total, {vote}, propagate_nan=tl.PropagateNan.ALL)",
            "max": f"tl.maximum(total, {vote}, propagate_nan=tl.PropagateNan.ALL)",
        }[self.form.aggregate]
        builder.line(f"total = tl.where({mask}, {combined}, total)")

"""Threat 6: every load and store whose index, size or position comes from data is listed, and a check
dominates it.

Three walks over the same models: the kernel IR (which accesses hold data in their index; everything else is
proved by the verifier under the guards that are checked before the launch), the generated code (the address
of no access depends on data that has not been compared with an extent, and each comparison reports), and runs
on hostile numbers under checked code generation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import numpy as np
import pytest

import dlc
from dlc.backends.cpu import types as t
from dlc.backends.cpu.backend import generate
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.errors import InternalError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import Dim, Symbol
from dlc.ir.graph import Graph, ShapeSource
from dlc.lowering import expr as e
from dlc.lowering.inspect import loads, stages
from dlc.lowering.kernel import Store
from dlc.lowering.lower import lower
from dlc.lowering.program import Bind, Check, Launch, Program, walk
from dlc.lowering.verify_program import verify_program
from dlc.passes.pipeline import default_pipeline
from dlc.target import resolve
from tests.helpers.dataflow import Flow, parse
from tests.helpers.indexed_models import INDEXED, Indexed

#: The verifier cannot prove what the guard says of products: that a * b elements are n * m.
UNPROVED = {"computed_shape"}
#: Symbols that the compiler's own routines count: how many elements they found.
COUNTED = {"count"}

each_model = pytest.mark.parametrize("case", INDEXED, ids=lambda case: case.name)


@functools.cache
def lowered(name: str) -> tuple[Graph, Program]:
    (case,) = (case for case in INDEXED if case.name == name)
    graph = import_model(case.model()).graph
    default_pipeline().run(graph)
    return graph, lower(graph)


def data_axes(index: Sequence[e.Index]) -> str:
    """The axes along which an index comes from data."""
    return " ".join(str(axis) for axis, entry in enumerate(index) if isinstance(entry, e.Expr))


def accesses(program: Program) -> Iterator[str]:
    """The loads and stores of all launches whose index holds data."""
    for step in walk(program.steps):
        if isinstance(step, Launch):
            body = program.kernels[step.kernel].body
            found = [("load", load.index) for load in loads(body)]
            found += [("store", stage.index) for stage in stages(body) if isinstance(stage, Store)]
            yield from (f"{kind} {data_axes(index)}" for kind, index in found if data_axes(index))


def from_data(graph: Graph, program: Program) -> list[Symbol]:
    """The symbols whose numbers are data: elements of inputs, and what steps read from memory."""
    elements = [s for s in program.symbols if not isinstance(graph.symbols[s], ShapeSource)]
    return elements + [step.symbol for step in walk(program.steps) if isinstance(step, Bind)]


# --- the kernel IR


@each_model
def test_the_accesses_at_indices_from_data_are_these(case: Indexed) -> None:
    graph, program = lowered(case.name)
    assert tuple(accesses(program)) == case.accesses
    assert len(from_data(graph, program)) == case.symbols
    assert case.accesses or case.symbols or case.name in WITHOUT, "the model shows nothing"


#: Models whose data chooses values, not places: the operator compares it with positions.
WITHOUT = {"one_hot", "attention_of_valid_keys", "regions"}


@each_model
def test_all_other_indices_are_proved_under_guards_that_are_checked_before(case: Indexed) -> None:
    _, program = lowered(case.name)
    if case.name in UNPROVED:
        with pytest.raises(InternalError, match="is not proved"):
            verify_program(program)
    else:
        verify_program(program)


@each_model
def test_proofs_assume_nothing_of_numbers_from_data(case: Indexed) -> None:
    """Their symbols may be any integer: what is known of them are guards, which the program checks."""
    for symbol in from_data(*lowered(case.name)):
        if symbol.name not in COUNTED:
            assert (symbol.lo, symbol.hi) == (None, None), symbol


@pytest.mark.parametrize("name", ["split_sizes", "computed_split"])
def test_without_its_guards_a_program_is_refused(name: str) -> None:
    """The proofs do need the guards, and need them before the launch."""
    _, program = lowered(name)
    unguarded = dataclasses.replace(
        program,
        entry_guards=0,
        steps=tuple(step for step in program.steps if not isinstance(step, Check)),
    )
    with pytest.raises(InternalError, match="is not proved"):
        verify_program(unguarded)
    late = [step for step in program.steps if isinstance(step, Check)]
    if late:
        early = [step for step in program.steps if not isinstance(step, Check)]
        with pytest.raises(InternalError, match="is not proved"):
            verify_program(dataclasses.replace(program, steps=(*early, *late)))


# --- generated code


def flows(program: Program, target: str) -> list[Flow]:
    """What is data in the code of each kernel."""
    code = generate(program, resolve(target))
    functions = parse(code.text)
    return [
        Flow(functions, each.function, {i for i, p in enumerate(each.kernel.params) if p.constant})
        for each in code.kernels
    ]


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@each_model
def test_a_check_dominates_every_address_that_depends_on_data(case: Indexed, target: str) -> None:
    found = flows(lowered(case.name)[1], target)
    assert not [problem for flow in found for problem in flow.unchecked()]
    assert not [problem for flow in found for problem in flow.unreported()]
    if case.accesses:
        assert sum(len(flow.checks()) for flow in found) >= 1


#: Indices that count from 0 to a number from data: loops keep them small, and no walk sees data in them.
COUNTERS = {"computed_range_of_a_table"}


@pytest.mark.parametrize(
    "case", [c for c in INDEXED if c.accesses and c.name not in COUNTERS], ids=lambda case: case.name
)
def test_the_walk_finds_a_check_that_is_left_out(case: Indexed) -> None:
    def unchecked(self: ExpressionEmitter, entry: e.Expr, extent: Dim, *_: object) -> t.Value:
        del extent
        return self.emit(entry)

    def silent(*_: object) -> None:
        return None

    program = lowered(case.name)[1]
    with patch.object(ExpressionEmitter, "_checked_index", unchecked):
        assert [problem for flow in flows(program, "x86-64-v3") for problem in flow.unchecked()]
    with patch.object(ExpressionEmitter, "_report", silent):
        assert [problem for flow in flows(program, "x86-64-v3") for problem in flow.unreported()]


# --- runs

BIG = (1 << 31, 1 << 40, 1 << 62, (1 << 62) + 1, (1 << 63) - 1)
INTEGERS = (0, 1, -1, 100, 3**39, *BIG, *(-number for number in BIG), -(1 << 63))
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 1e18, -1e18, 1e-40)
#: Sizes that only cost memory are not asked for here.
LARGEST_SIZE = 1 << 20


def hostile(case: Indexed) -> Iterator[dict[str, np.ndarray]]:
    """The good inputs with one, or all, of the numbers of a place replaced."""
    for place in case.places:
        good = case.feeds[place]
        is_integer = good.dtype.kind == "i"
        for number in INTEGERS if is_integer else FLOATS:
            if is_integer and not np.iinfo(good.dtype).min <= number <= np.iinfo(good.dtype).max:
                continue
            if case.name == "one_hot_of_any_depth" and place == "d" and number > LARGEST_SIZE:
                continue
            for position in (0, -1, slice(None)):
                bad = good.copy()
                bad.reshape(-1)[position] = number
                yield {**case.feeds, place: bad}


@each_model
def test_hostile_numbers_end_in_results_or_typed_errors(case: Indexed) -> None:
    """Checked code would say if anything left its memory: that is an InternalError."""
    limits = dlc.Limits(arena_bytes=1 << 26)
    with dlc.compile(case.model(), cache=False, debug_codegen=True, limits=limits) as model:
        expected = [np.array(y) for y in model(dict(case.feeds))]
        refused = 0
        for feeds in hostile(case):
            try:
                model(feeds)
            except (dlc.InputError, dlc.LimitError, dlc.ResourceError):
                refused += 1
        assert refused or case.name in WITHOUT | {"grid_sample", "grid_sample_reflected", "compressed"}
        for got, want in zip(model(dict(case.feeds)), expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", ["Gather", "GatherElements", "ScatterElements", "RoiAlign"])
def test_there_is_no_element_to_clamp_to(kind: str) -> None:
    """An index into an axis without elements touches nothing, though rows beside it would be far away."""
    text, feeds = {
        "Gather": (
            "m (float[r, c] x, int64[n] i) => (float[n, c] y) { y = Gather(x, i) }",
            {"x": np.zeros((0, 1 << 26), np.float32), "i": np.zeros(1, np.int64)},
        ),
        "GatherElements": (
            "m (float[r, c] x, int64[n, c] i) => (float[n, c] y) { y = GatherElements(x, i) }",
            {"x": np.zeros((0, 1 << 22), np.float32), "i": np.zeros((1, 1 << 22), np.int64)},
        ),
        "ScatterElements": (
            """m (float[r, c] x, int64[n, c] i, float[n, c] u) => (float[r, c] y) {
              y = ScatterElements(x, i, u)
            }""",
            {
                "x": np.zeros((0, 1 << 22), np.float32),
                "i": np.zeros((1, 1 << 22), np.int64),
                "u": np.zeros((1, 1 << 22), np.float32),
            },
        ),
        "RoiAlign": (
            """m (float[b, c, 64, 64] x, float[n, 4] r, int64[n] i) => (float[n, c, 1, 1] y) {
              y = RoiAlign <output_height = 1, output_width = 1> (x, r, i)
            }""",
            {
                "x": np.zeros((0, 1 << 14, 64, 64), np.float32),
                "r": np.ones((1, 4), np.float32),
                "i": np.zeros(1, np.int64),
            },
        ),
    }[kind]
    model = Indexed(kind, text, feeds, ()).model()
    for debug in (True, False):
        with (
            dlc.compile(model, cache=False, debug_codegen=debug) as compiled,
            pytest.raises(dlc.IndexFault),
        ):
            compiled(dict(feeds))

"""Programs with branches, loops and sizes of the run: evaluated on bytes, their memory plans replayed."""

from __future__ import annotations

import pytest

from dlc.frontend.onnx.importer import import_model
from dlc.ir.graph import ElementSource
from dlc.lowering.lower import lower
from dlc.lowering.program import Copy, Launch, Program, Repeat, walk
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.verify_program import verify_program
from dlc.passes.pipeline import default_pipeline
from tests.helpers.control_models import SCATTER_STATE, WHILE_LOOP, Case
from tests.helpers.judged import CASES, assert_judged_right, runs


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_program_means_what_the_model_does(case: Case, level: int) -> None:
    model = import_model(case.model())
    default_pipeline(level).run(model.graph)
    program = lower(model.graph)
    assert not verify_program(program)
    names = {value.name: spec.name for value, spec in zip(model.graph.inputs, model.inputs, strict=True)}
    for run in runs(case):
        numbers = {}
        for symbol in program.symbols:
            source = model.graph.symbols[symbol]
            if isinstance(source, ElementSource):
                numbers[symbol.name] = int(run.feeds[names[source.value]].reshape(-1)[source.index])
        inputs = [run.feeds[spec.name] for spec in model.inputs]
        assert_judged_right(run, evaluate_program(program, inputs, numbers))


def loop_of(case: Case) -> tuple[Program, Repeat]:
    """The program of a case and its only loop."""
    model = import_model(case.model())
    default_pipeline().run(model.graph)
    program = lower(model.graph)
    (loop,) = (step for step in walk(program.steps) if isinstance(step, Repeat))
    return program, loop


def test_states_are_computed_where_they_lie() -> None:
    _, loop = loop_of(WHILE_LOOP)
    assert not any(isinstance(step, Copy) for step in loop.body)


def test_an_update_of_a_state_copies_nothing_but_the_update() -> None:
    """The state that nothing else reads is updated in place; the other one, which is, must be copied."""
    _, loop = loop_of(SCATTER_STATE)
    update, copy, other_update, total = (step for step in loop.body if isinstance(step, Launch))
    assert update.kernel == other_update.kernel
    assert len(copy.buffers) == 2 and len(total.buffers) == 3

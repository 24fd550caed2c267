"""Programs with strings, sequences and optionals: steps over a table of objects."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dlc.errors import InternalError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.objects import detached, with_row
from dlc.lowering.lower import lower
from dlc.lowering.program import (
    Copy,
    Host,
    Measure,
    ObjectSlot,
    Program,
    Refer,
    Unload,
    buffers,
    walk,
)
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.program_text import program_text
from dlc.lowering.verify_program import verify_program
from dlc.passes.pipeline import default_pipeline
from tests.helpers.object_models import CASES, ObjectCase, X, assert_same, parse


def program_of(text: str) -> Program:
    graph = import_model(parse(text)).graph
    default_pipeline().run(graph)
    return lower(graph)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_program_means_what_the_model_does(case: ObjectCase) -> None:
    model = import_model(case.model())
    default_pipeline().run(model.graph)
    program = lower(model.graph)
    verify_program(program)
    hosts = [step.node.op.name for step in walk(program.steps) if isinstance(step, Host)]
    assert sorted(hosts) == sorted(case.hosts)
    names = [spec.name for spec in model.inputs]
    for feeds, wanted in zip(case.feeds, case.results, strict=True):
        inputs = [feeds[name] for name in names]
        for actual, expected in zip(evaluate_program(program, inputs, elements(model, feeds)), wanted):
            assert_same(actual, expected)


def elements(model: Any, feeds: dict[str, Any]) -> dict[str, int]:
    """The symbols that are elements of inputs."""
    return {
        symbol.name: int(feeds[source.value].reshape(-1)[source.index])
        for symbol, source in model.graph.symbols.items()
        if hasattr(source, "index") and source.value in feeds
    }


SEQUENCE = (
    "g (seq(float[a,4]) s, int64 i, string[n] t) => (float[n,4] y, string[n] u) "
    "{ x = SequenceAt(s,i) y = Mul(x,x) k = Constant<value_strings=[\"k\"]>() u = StringConcat(t,k) }"
)


def test_the_steps_between_python_and_generated_code() -> None:
    program = program_of(SEQUENCE)
    kinds = [type(step).__name__ for step in program.steps]
    assert kinds == ["Host", "Measure", "Grow", "Unload", "Grow", "Launch", "Host"]
    at, measure, _, unload, *_ = program.steps
    assert isinstance(at, Host) and isinstance(measure, Measure) and isinstance(unload, Unload)
    assert at.outputs[0] == measure.slot == unload.slot and measure.symbol in program.run_symbols
    assert [isinstance(place, ObjectSlot) for place in program.inputs] == [True, False, True]
    assert [isinstance(place, ObjectSlot) for place in program.outputs] == [False, True]
    (constant,) = program.object_constants
    assert constant.data.tolist() == ["k"] and program.objects == 5
    assert all(isinstance(place, ObjectSlot) for place in (at.outputs[0], *program.inputs[::2]))
    assert [buffer.name for buffer in buffers(at.inputs)] == ["i"]


def test_the_text_shows_objects() -> None:
    text = program_text(program_of(SEQUENCE))
    for line in (
        "input %s: seq<f32[?, 4]> @ object 0",
        "output %u: string[n] @ object 4",
        "constant %k: string[1] @ object 3",
        "measure x_0 = extent 0 of %x.object @ object 2",
        "unload %x.object @ object 2 to %x @ grown 1",
    ):
        assert line in text, text


def test_branches_and_loops_pass_references() -> None:
    text = (
        "g (seq(float[a]) s, int64 k, bool c) => (seq(float[b]) y) { y = Loop(k,c,s) "
        "<body = b (int64 i, bool cc, seq(float[u]) st) => (bool co, seq(float[v]) so) { "
        "co = Identity(cc) e = SequenceAt(st,i) t = SequenceErase(st) so = SequenceInsert(t,e) }> }"
    )
    program = program_of(text)
    steps = list(walk(program.steps))
    assert any(isinstance(step, Refer) for step in steps) and not any(isinstance(s, Copy) for s in steps)
    s = [X[0, 0], X[0, 1]]
    (result,) = evaluate_program(program, [s, np.array(2), np.array(True)], {"k": 2})
    assert [part.tolist() for part in result] == [s[0].tolist(), s[0].tolist()]
    assert len(s) == 2


def test_an_object_that_is_not_there_is_found() -> None:
    program = program_of(SEQUENCE)
    broken = dataclasses.replace(program, steps=program.steps[1:])
    with pytest.raises(InternalError, match=r"reads %x.object, an object that is not there yet"):
        evaluate_program(broken, [[X[0]], np.array(0), np.array(["a"], object)])
    late = dataclasses.replace(program, steps=(*program.steps[:1], *program.steps[2:]))
    with pytest.raises(InternalError, match="the symbol x_0 is not bound yet"):
        verify_program(late)


def test_rows_and_copies() -> None:
    a, b = np.array(["a"], object), np.array(["b"], object)
    stack = with_row(with_row(np.empty((0, 1), object), 0, a), 1, b)
    assert stack.tolist() == [["a"], ["b"]] and with_row(stack, 0, b).tolist() == [["b"]]
    value = [X, None, [a]]
    copy = detached(value)
    copy[0][...] = 0
    copy[2][0][0] = "z"
    assert X[0, 0, 0] == -7 and a[0] == "a" and copy[1] is None

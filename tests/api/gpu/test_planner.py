"""Plans: workspaces, symbols, guards and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("triton")

from dlc.api.gpu import plan as p
from dlc.api.gpu.plan_check import check, walk
from dlc.api.gpu.planner import ALIGNMENT, make_plan, summary
from dlc.backends.triton import backend
from dlc.backends.triton.backend import generate
from dlc.backends.triton.elements import NotInTriton
from dlc.errors import UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import Symbol, evaluate
from dlc.lowering.lower import lower
from dlc.lowering.parse import parse as parse_kernel
from tests.api.small_models import AFFINE, GATHER, parse
from tests.helpers.gpu_models import interpreted


def planned(model: onnx.ModelProto) -> tuple[p.Plan, int]:
    plan, functions = make_plan(generate(lower(import_model(model).graph)))
    check(plan, len(functions))
    return plan, len(functions)


def lstm(hidden: int = 4, before: str = "", x: str = "x") -> onnx.ModelProto:
    signature = (
        f"recurrent (float[t, n, 3] x, bool[n] keep, float[1, {4 * hidden}, 3] w, "
        f"float[1, {4 * hidden}, {hidden}] r) => (float[t, 1, m, {hidden}] y)"
    )
    return parse(signature, f"{before} y, h, c = LSTM <hidden_size = {hidden}> ({x}, w, r)")


def test_a_pointwise_model_is_its_launches() -> None:
    plan, functions = planned(AFFINE)
    assert plan.symbols == ("n",) and plan.workspaces == () and plan.fault_origins == ()
    assert 1 <= len(plan.steps) <= 2 and all(isinstance(step, p.Launch) for step in plan.steps)
    assert functions == len({step.function for step in plan.steps if isinstance(step, p.Launch)})
    assert [tensor.shape for tensor in plan.outputs] == [(Symbol("n"), 3)] * 2


def test_launches_of_one_function_share_it() -> None:
    model = parse(
        "twice (float[n, 3] x, float[n, 3] u) => (float[n, 3] y, float[n, 3] v)",
        "y = Softmax (x)  v = Softmax (u)",
    )
    plan, functions = planned(model)
    launches = [step for step in walk(plan.steps) if isinstance(step, p.Launch)]
    assert functions == 1 and [launch.function for launch in launches] == [0, 0]
    assert len({launch.pointers for launch in launches}) == 2


def test_checked_indices_have_places_of_their_own() -> None:
    plan, _ = planned(GATHER)
    assert plan.fault_origins == ("node_y",)
    (launch,) = plan.steps
    assert isinstance(launch, p.Launch) and launch.pointers[-1] == p.Place(p.FAULTS, 0, 0)
    model = parse(
        "gathers (float[5, 2] t, int64[n] i, float[5, 2] u, int64[m] j) => (float[n, 2] y, float[m, 2] z)",
        "y = Gather (t, i)  z = Gather (u, j)",
    )
    plan, _ = planned(model)
    assert plan.fault_origins == ("node_y", "node_z")
    places = [step.pointers[-1] for step in walk(plan.steps) if isinstance(step, p.Launch)]
    assert [place.offset for place in places] == [0, 16]


def test_workspaces_that_change_places_are_equally_large() -> None:
    plan, _ = planned(lstm())
    pairs = [pair for step in plan.steps if isinstance(step, p.Recur) for pair in step.swapped]
    assert len(pairs) == 2  # the hidden state and the cell
    for one, other in pairs:
        assert plan.workspaces[one] == plan.workspaces[other]
        assert evaluate(plan.workspaces[one], {"n": 7, "t": 3}) >= 7 * 4 * 4
    assert all(evaluate(size, {"n": 7, "t": 3}) % ALIGNMENT == 0 for size in plan.workspaces)


def test_equal_sizes_go_through_all_recurrences() -> None:
    """Two recurrences of different widths use the same memories."""
    model = parse(
        "two (float[t, n, 3] x, float[1, 16, 3] w, float[1, 16, 4] r, float[1, 32, 3] w2, float[1, 32, 8] r2)"
        " => (float[t, 1, n, 4] y, float[t, 1, n, 8] z)",
        "y, h, c = LSTM <hidden_size = 4> (x, w, r)  z, h2, c2 = LSTM <hidden_size = 8> (x, w2, r2)",
    )
    plan, _ = planned(model)
    recurrences = [step for step in plan.steps if isinstance(step, p.Recur)]
    assert len(recurrences) == 2
    for step in recurrences:
        for one, other in step.swapped:
            assert plan.workspaces[one] == plan.workspaces[other]
            assert evaluate(plan.workspaces[one], {"n": 5, "t": 2}) >= 5 * 8 * 4


def test_the_axis_of_a_recurrence_is_a_symbol_of_its_launches() -> None:
    plan, _ = planned(lstm())
    (recur,) = (step for step in plan.steps if isinstance(step, p.Recur))
    assert recur.axis in plan.ranges and recur.extent == Symbol("t") and not recur.reverse
    assert recur.axis not in plan.symbols
    assert any(Symbol(recur.axis) in launch.scalars for launch in recur.body)


def test_workspaces_of_sizes_that_only_the_run_tells_are_reserved() -> None:
    model = lstm(before="kept = Compress <axis = 1> (x, keep)", x="kept")
    plan, _ = planned(model)
    reserves = [step for step in plan.steps if isinstance(step, p.Reserve)]
    (recur,) = (step for step in plan.steps if isinstance(step, p.Recur))
    assert len(reserves) >= 1
    needed = {index for pair in recur.swapped for index in pair}
    reserve = reserves[-1]
    assert plan.steps.index(reserve) < plan.steps.index(recur)
    assert max(needed) < len(reserve.bytes)
    generator = np.random.default_rng(0)
    arrays = {
        "x": generator.standard_normal((3, 40, 3)).astype(np.float32),
        "w": generator.standard_normal((1, 16, 3)).astype(np.float32),
        "r": generator.standard_normal((1, 16, 4)).astype(np.float32),
    }
    plain = lstm()
    with interpreted(model) as kept, interpreted(plain) as whole:
        for count in (3, 40, 0, 7):
            keep = np.arange(40) < count
            y = kept.run(None, {**arrays, "keep": keep})[0]
            assert y.shape == (3, 1, count, 4)
            expected = whole.run(None, {**arrays, "keep": keep})[0]
            np.testing.assert_allclose(y, expected[:, :, :count], rtol=1e-5, atol=1e-6)


def test_kernels_that_only_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise NotInTriton("left to the host by a test")

    monkeypatch.setattr(backend, "emit_kernel", refuse)
    plan, functions = planned(AFFINE)
    assert functions == 0 and len(plan.steps) >= 1
    for step in plan.steps:
        assert isinstance(step, p.Evaluate)
        assert step.reason == "left to the host by a test" and step.origin.startswith("node_")
        assert len(parse_kernel(step.kernel).params) == len(step.places)
    assert sorted(summary(plan), key=str) == sorted(plan.steps, key=str)


def test_objects_are_refused() -> None:
    strings = parse("texts (string[n] x) => (string[n] y)", "y = Identity (x)")
    with pytest.raises(UnsupportedError, match="strings, sequences") as caught:
        planned(strings)
    assert caught.value.code == "unsupported/target"

"""The executor under Triton's interpreter: launches, guards, faults, memory, kernels of the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("triton")

import dlc
from dlc.api.gpu import plan as p
from dlc.api.gpu.executor import Executor
from dlc.api.gpu.interpreted import InterpretedLaunch, InterpretedMachine
from dlc.api.gpu.model import GpuModel
from dlc.api.gpu.planner import make_plan
from dlc.backends.triton import backend, function_builder
from dlc.backends.triton.elements import NotInTriton
from dlc.errors import IndexFault, InputError, LimitError, ShapeError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.lowering.lower import lower
from dlc.lowering.text import to_text
from tests.api.small_models import AFFINE, GATHER, affine_inputs, affine_outputs, parse
from tests.helpers.gpu_models import interpreted, open_interpreted

Array: TypeAlias = "np.ndarray[Any, Any]"


class Counting(InterpretedMachine):
    """Counts launches that are prepared, run and patched, and memories that are made."""

    def __init__(self, functions: Any) -> None:
        super().__init__(functions)
        self.prepared = self.launched = self.patched = self.allocated = 0

    def prepare(self, function: int, grid: tuple[int, ...], values: Sequence[int]) -> InterpretedLaunch:
        self.prepared += 1
        return CountedLaunch(self, self.functions[function], grid, list(values))

    def allocate(self, size: int, what: str) -> Any:
        self.allocated += 1
        return super().allocate(size, what)


class CountedLaunch(InterpretedLaunch):
    def __call__(self) -> None:
        assert isinstance(self._machine, Counting)
        self._machine.launched += 1
        super().__call__()

    def patch(self, index: int, value: int) -> None:
        assert isinstance(self._machine, Counting)
        self._machine.patched += 1
        super().patch(index, value)


def counting(source: Any) -> tuple[GpuModel, Counting]:
    model = interpreted(source)
    machine = Counting(model._gpu.functions)
    return GpuModel(model._gpu, machine=lambda artifact: machine), machine


def test_launches_are_prepared_once_for_each_size() -> None:
    model, machine = counting(AFFINE)
    for rows in (4, 4, 7, 4, 7):
        feeds = affine_inputs(rows, seed=rows)
        y, z = model.run(None, feeds)
        np.testing.assert_array_equal(y, affine_outputs(**feeds)[0])
        np.testing.assert_allclose(z, np.tanh(feeds["x"]), rtol=1e-6)
    launches = sum(isinstance(step, p.Launch) for step in model._gpu.plan.steps)
    assert machine.prepared == 2 * launches and machine.launched == 5 * launches
    model.close()


def test_repeated_runs_allocate_nothing() -> None:
    model, machine = counting(AFFINE)
    model.run(None, affine_inputs(9))
    before = machine.allocated
    for rows in (9, 3, 1, 9):
        model.run(None, affine_inputs(rows))
    assert machine.allocated == before
    model.run(None, affine_inputs(50))
    assert machine.allocated > before and machine.patched == 0
    y = model.run(None, affine_inputs(9))[0]  # the memories of the larger run are others
    np.testing.assert_array_equal(y, affine_outputs(**affine_inputs(9))[0])
    assert machine.patched > 0
    model.close()
    assert not machine.memories


def test_many_sizes_do_not_pile_up() -> None:
    with interpreted(AFFINE) as model:
        for rows in range(70):
            feeds = affine_inputs(rows)
            np.testing.assert_array_equal(model.run(None, feeds)[0], affine_outputs(**feeds)[0])
        assert isinstance(model, GpuModel) and len(model.executor._bindings) <= 64


# --- guards and faults

GUARDED = parse("guarded (float[n, 4] x, float[m, 4] u) => (float[n, 4] y)", "y = Add (x, u)")


def test_extents_that_do_not_broadcast() -> None:
    x = np.ones((3, 4), np.float32)
    with interpreted(GUARDED) as model:
        np.testing.assert_array_equal(model.run(None, {"x": x, "u": x[:1]})[0], 2 * x)
        with pytest.raises((InputError, ShapeError)):
            model.run(None, {"x": x, "u": np.ones((2, 4), np.float32)})
        np.testing.assert_array_equal(model.run(None, {"x": x, "u": x})[0], 2 * x)


def test_wrong_inputs_are_refused() -> None:
    with interpreted(AFFINE) as model:
        feeds = affine_inputs()
        with pytest.raises((InputError, ShapeError)):
            model.run(None, {**feeds, "x": feeds["x"][:, :2]})
        with pytest.raises(InputError):
            model.run(None, {**feeds, "x": feeds["x"].astype(np.float64)})
        with pytest.raises(InputError):
            model.run(None, {"x": feeds["x"]})
        np.testing.assert_array_equal(model.run(None, feeds)[0], affine_outputs(**feeds)[0])


def test_a_guard_in_the_run() -> None:
    """A reshape to numbers that only the run computes."""
    model = parse(
        "shaped (float[6] x, int64[2] shape) => (float[a, b] y)",
        "two = Constant <value = int64[1] {1}> ()  s = Mul (shape, two)  y = Reshape (x, s)",
    )
    x = np.arange(6, dtype=np.float32)
    with interpreted(model) as gpu:
        for shape in ((2, 3), (6, 1), (3, 2)):
            np.testing.assert_array_equal(
                gpu.run(None, {"x": x, "shape": np.array(shape)})[0], x.reshape(shape)
            )
        with pytest.raises((InputError, ShapeError)):
            gpu.run(None, {"x": x, "shape": np.array([4, 2])})


def test_a_bad_index_names_its_node() -> None:
    model = parse(
        "gathers (float[5, 2] t, int64[n] i, int64[m] j) => (float[n, 2] y, float[m, 2] z)",
        "y = Gather (t, i)  e = Exp (t)  z = Gather (e, j)",
    )
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    good, bad = np.array([0, -5, 4]), np.array([0, 5, 1])
    with interpreted(model) as gpu:
        for feeds, node in (({"i": bad, "j": good}, "node_y"), ({"i": good, "j": bad}, "node_z")):
            with pytest.raises(IndexFault) as caught:
                gpu.run(None, {"t": table, **feeds})
            assert node in str(caught.value.node)
            y, z = gpu.run(None, {"t": table, "i": good, "j": good})  # the report is empty again
            np.testing.assert_array_equal(y, table[good])
            np.testing.assert_allclose(z, np.exp(table)[good], rtol=1e-6)


def test_a_bad_index_in_a_loop() -> None:
    model = parse(
        "walk (float[5] t, int64[n] i, int64 trip) => (float s)",
        """
        yes = Constant <value = bool {1}> ()
        zero = Constant <value_float = 0.0> ()
        s = Loop (trip, yes, zero) <body = step (int64 k, bool go, float a) => (bool on, float b) {
            on = Identity(go)
            at = Gather (i, k)
            v = Gather (t, at)
            b = Add (a, v)
        }>
        """,
    )
    table = np.arange(5, dtype=np.float32)
    with interpreted(model) as gpu:
        at = np.array([4, 1, 7])
        assert gpu.run(None, {"t": table, "i": at, "trip": np.array(2)})[0] == 5
        with pytest.raises(IndexFault):
            gpu.run(None, {"t": table, "i": at, "trip": np.array(3)})


def test_endless_loops_end() -> None:
    model = parse(
        "endless (float x) => (float y)",
        """
        yes = Constant <value = bool {1}> ()
        y = Loop (, yes, x) <body = step (int64 k, bool go, float a) => (bool on, float b) {
            b = Add (a, a)
            on = GreaterOrEqual(b, a)
        }>
        """,
    )
    limits = dlc.Limits(loop_iterations=5)
    with interpreted(model, limits=limits) as gpu, pytest.raises(LimitError, match="5"):
        gpu.run(None, {"x": np.float32(0)})


def test_indices_of_32_bits_are_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("large (int8[n, m] x) => (int8[n, m] y)", "y = Neg (x)")
    program = lower(import_model(model).graph)
    plan, functions = make_plan(backend.generate(program))
    executor = Executor(plan, InterpretedMachine(functions), [])
    for numbers in ((70_000, 70_000), (1 << 31, 1), (1, function_builder.MOST_ELEMENTS + 1)):
        with pytest.raises(UnsupportedError, match="elements"):
            executor.run(executor.bind(numbers), [1 << 20], [1 << 20])
    fixed = import_model(model, shapes={"n": 70_000, "m": 70_000})
    (kernel,) = backend.generate(lower(fixed.graph)).kernels
    assert not isinstance(kernel, backend.HostKernel)
    assert {call.function.index for call in kernel.calls} == {"i64"}


# --- kernels of the host


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No template takes a kernel with an exponential."""
    emit = backend.emit_kernel

    def without(kernel: Any, *arguments: Any) -> Any:
        if "exp(" in to_text(kernel):
            raise NotInTriton("exponentials are left to the host by a test")
        return emit(kernel, *arguments)

    monkeypatch.setattr(backend, "emit_kernel", without)


HOSTED = parse(
    "hosted (float[n, 5] x, int64[k] i) => (float[k, 5] y, float[n] s)",
    "one = Constant <value = int64[1] {1}> ()  a = Gather (x, i)  y = Exp (a)"
    "  r = ReduceSum <keepdims = 0> (x, one)  s = Abs (r)",
)


def test_kernels_of_the_host_stand_among_others(hosted: None) -> None:
    with interpreted(HOSTED) as model:
        hosts = model.report().hosts
        assert len(hosts) == 1 and "node_y" in hosts[0].node
        assert hosts[0].reason == "exponentials are left to the host by a test"
        for rows, count in ((3, 4), (7, 0), (3, 4), (1, 1)):
            x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
            i = np.arange(count) % rows
            y, s = model.run(None, {"x": x, "i": i})
            np.testing.assert_allclose(y, np.exp(x[i]), rtol=1e-6)
            np.testing.assert_allclose(s, np.abs(x.sum(axis=1)), rtol=1e-5)
        with pytest.raises(IndexFault) as caught:
            model.run(None, {"x": x, "i": np.array([1])})
        assert "node_" in str(caught.value.node)


def test_strict_refuses_kernels_of_the_host(hosted: None) -> None:
    with pytest.raises(UnsupportedError) as caught:
        interpreted(HOSTED, strict=True)
    assert [finding.reason for finding in caught.value.findings] == [
        "exponentials are left to the host by a test"
    ]
    interpreted(GATHER, strict=True).close()


# --- sizes of the run

STACKS = parse(
    "stack (float[n] x, int64 trip) => (float[n] y, float[t, n] rows, float[n] total)",
    """
    yes = Constant <value = bool {1}> ()
    y, rows = Loop (trip, yes, x) <body = step (int64 i, bool go, float[n] h)
        => (bool on, float[n] g, float[n] row) {
        on = Identity(go)
        g = Add(h, x)
        row = Mul(h, x)
    }>
    zero = Constant <value = int64[1] {0}> ()
    total = ReduceSum <keepdims = 0> (rows, zero)
    """,
)


def test_growing_outputs() -> None:
    x = np.array([1, 2, 3], np.float32)
    with interpreted(STACKS) as model:
        for trip in (2, 40, 0, 1, 7):
            y, rows, total = model.run(None, {"x": x, "trip": np.array(trip)})
            steps = np.arange(1, trip + 1, dtype=np.float32)[:, None]
            np.testing.assert_array_equal(y, x * (trip + 1))
            np.testing.assert_array_equal(rows, steps * x * x)
            np.testing.assert_array_equal(total, (steps * x * x).sum(axis=0))


def test_nothing_has_grown_yet() -> None:
    x = np.array([1, 2, 3], np.float32)
    with interpreted(STACKS) as model:
        y, rows, total = model.run(None, {"x": x, "trip": np.array(0)})
        np.testing.assert_array_equal(y, x)
        assert rows.shape == (0, 3)
        np.testing.assert_array_equal(total, [0, 0, 0])


def test_growing_outputs_are_copies() -> None:
    x = np.ones(4, np.float32)
    with interpreted(STACKS) as model:
        first = model.run(None, {"x": x, "trip": np.array(3)})[1]
        kept = first.copy()
        model.run(None, {"x": 5 * x, "trip": np.array(3)})
        np.testing.assert_array_equal(first, kept)


def test_two_models_of_one_artifact() -> None:
    with interpreted(AFFINE) as one, open_interpreted(one._gpu) as other:
        for rows in (2, 5):
            feeds = affine_inputs(rows, seed=rows)
            for model in (one, other):
                np.testing.assert_array_equal(model.run(None, feeds)[0], affine_outputs(**feeds)[0])

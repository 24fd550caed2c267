"""Memory for sizes that only the run tells: bounded, checked against overflow, kept and used again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import dlc
from dlc.errors import InputError, LimitError, ShapeError
from dlc.limits import Limits
from tests.api.small_models import parse

#: Stacks x until the sum of what has been stacked exceeds the limit.
STACK = parse(
    "stack (float[n] x, int64 trip, float limit) => (float[n] y, float[t, n] rows)",
    """
    yes = Constant <value = bool {1}> ()
    y, rows = Loop (trip, yes, x) <body = step (int64 i, bool go, float[n] h)
        => (bool more, float[n] g, float[n] row) {
        g = Add(h, x)
        row = Identity(h)
        s = ReduceSum <keepdims = 0> (g)
        more = Less(s, limit)
    }>
    """,
)

#: A tensor of a shape that is computed, then summed.
FILLED = parse(
    "filled (int64[2] a, int64[2] b) => (float[n, m] y, float total)",
    "shape = Mul(a, b)  y0 = ConstantOfShape <value = float[1] {1.0}> (shape)  y = Exp(y0)"
    "  total = ReduceSum <keepdims = 0> (y)",
)

#: Each iteration stacks one element more than the one before.
UNEVEN = parse(
    "uneven (float[n] x, int64 trip) => (float[t, k] rows)",
    """
    yes = Constant <value = bool {1}> ()
    y, rows = Loop (trip, yes, x) <body = step (int64 i, bool go, float[a] h)
        => (bool on, float[b] g, float[a] row) {
        on = Identity(go)
        row = Exp(h)
        g = Concat <axis = 0> (h, x)
    }>
    """,
)


@pytest.fixture(scope="module")
def bounded() -> Iterator[dlc.CompiledModel]:
    """STACK with a megabyte of memory for each value."""
    with dlc.compile(STACK, cache=False, limits=Limits(arena_bytes=1 << 20)) as model:
        yield model


def stacked(model: dlc.CompiledModel, columns: int, rows: int) -> np.ndarray:
    x = np.ones(columns, np.float32)
    return model.run(["rows"], {"x": x, "trip": np.array(rows), "limit": np.array(np.inf, np.float32)})[0]


def test_memory_that_grows_is_bounded(bounded: dlc.CompiledModel) -> None:
    rows = stacked(bounded, 256, 1000)
    assert rows.shape == (1000, 256) and np.array_equal(rows[:, 0], np.arange(1, 1001))
    with pytest.raises(LimitError, match="exceeds 1,048,576 bytes") as caught:
        stacked(bounded, 256, 1025)
    assert "arena_bytes" in (caught.value.hint or "")
    assert stacked(bounded, 3, 5).tolist() == [[float(i)] * 3 for i in range(1, 6)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1 << 31, 1 << 31), (1 << 31, 1 << 31)),  # 2^62 twice: the bytes overflow
        ((1 << 20, 1 << 20), (1 << 12, 1 << 12)),  # 2^64 elements are 0
        ((1 << 20, 1), (1 << 24, 1)),  # simply too many
    ],
)
def test_sizes_that_overflow_are_refused(a: tuple[int, int], b: tuple[int, int]) -> None:
    with dlc.compile(FILLED, cache=False) as model:
        assert model(np.array([1, 2]), np.array([3, 2]))["y"].shape == (3, 4)
        with pytest.raises((LimitError, ShapeError)):
            model(np.array(a), np.array(b))
        assert model(np.array([2, 2]), np.array([1, 1]))["total"] == pytest.approx(4 * np.e)


def test_an_extent_of_zero_hides_no_overflow() -> None:
    with dlc.compile(FILLED, cache=False) as model:
        assert model(np.array([0, 1000]), np.array([1, 1000]))["y"].shape == (0, 1_000_000)
        with pytest.raises((LimitError, ShapeError)):
            model(np.array([0, 1 << 31]), np.array([1, 1 << 31]))


def test_elements_to_stack_have_one_shape() -> None:
    with dlc.compile(UNEVEN, cache=False) as model:
        assert model(np.zeros(3, np.float32), np.array(1))["rows"].tolist() == [[1, 1, 1]]
        with pytest.raises(ShapeError, match="another shape than the one before") as caught:
            model(np.zeros(3, np.float32), np.array(2))
        assert caught.value.node == "node_y"
        assert model(np.zeros(2, np.float32), np.array(1))["rows"].tolist() == [[1, 1]]


def test_memory_serves_later_calls(bounded: dlc.CompiledModel) -> None:
    """What a larger call grew is there for smaller ones, and shows nothing of it."""
    call = bounded.prepare(
        {"x": np.ones(4, np.float32), "trip": np.array(50), "limit": np.array(21, np.float32)}
    )
    assert call()["rows"].shape == (5, 4)
    before = call._call.state().storages
    assert call()["rows"].tolist() == [[float(i)] * 4 for i in range(1, 6)]
    assert call._call.state().storages == before


def test_outputs_of_unknown_size_take_no_memory_of_the_caller(bounded: dlc.CompiledModel) -> None:
    feeds = {"x": np.ones(4, np.float32), "trip": np.array(5), "limit": np.array(9, np.float32)}
    with pytest.raises(InputError, match="only the run") as caught:
        bounded.prepare(feeds, out={"rows": np.empty((5, 4), np.float32)})
    assert caught.value.code == "input/array"
    y = np.empty(4, np.float32)
    outputs = bounded.prepare(feeds, out={"y": y})()
    assert outputs["y"] is y and y.tolist() == [3, 3, 3, 3]


def test_a_session_returns_them() -> None:
    session = dlc.InferenceSession(STACK.SerializeToString())
    feeds = {"x": np.ones(2, np.float32), "trip": np.array(3), "limit": np.array(99, np.float32)}
    y, rows = session.run(None, feeds)
    assert y.tolist() == [4, 4] and rows.tolist() == [[1, 1], [2, 2], [3, 3]]
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("rows")
    session.run_with_iobinding(binding)
    assert binding.get_outputs()[0].numpy().tolist() == rows.tolist()

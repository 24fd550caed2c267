"""Loops that do not end by themselves: stopped by their caller, or by the limit on iterations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest

import dlc
from dlc.errors import CancelledError, LimitError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.limits import Limits
from dlc.lowering.lower import lower
from dlc.lowering.program_evaluate import evaluate_program
from tests.api.small_models import parse

#: Doubles x until its sum exceeds the limit, which zeros never do.
ENDLESS = parse(
    "endless (float[n] x, float limit) => (float[n] y)",
    """
    yes = Constant <value = bool {1}> ()
    y = Loop ("", yes, x) <body = step (int64 i, bool go, float[n] h) => (bool more, float[n] g) {
        g = Add(h, h)
        t = ReduceSum <keepdims = 0> (g)
        more = Less(t, limit)
    }>
    """,
)

#: Counts up to `trip`, in an inner loop of as many iterations.
NESTED = parse(
    "nested (int64 outer, int64 inner) => (int64 y)",
    """
    zero = Constant <value_int = 0> ()
    y = Loop (outer, "", zero) <body = step (int64 i, bool go, int64 a) => (bool on, int64 b) {
        on = Identity(go)
        b = Loop (inner, "", a) <body = deep (int64 j, bool go2, int64 c) => (bool on2, int64 d) {
            on2 = Identity(go2)
            one = Constant <value_int = 1> ()
            d = Add(c, one)
        }>
    }>
    """,
)
NESTED.graph.node[1].attribute[0].g.node[1].name = "the inner loop"

ZEROS = {"x": np.zeros(5, np.float32), "limit": np.array(1, np.float32)}
ONES = {"x": np.ones(5, np.float32), "limit": np.array(100, np.float32)}


@pytest.fixture(scope="module", params=[1, 3])
def endless(request: pytest.FixtureRequest) -> Iterator[dlc.CompiledModel]:
    """ENDLESS with a limit that no test comes near."""
    limits = Limits(loop_iterations=1 << 60)
    with dlc.compile(ENDLESS, threads=request.param, cache=False, limits=limits) as model:
        yield model


def _run_until_cancelled(
    run: Callable[[], object], cancel: Callable[[], None], begun: Callable[[], bool]
) -> None:
    """Run in another thread; cancel when it has begun, and see that it raises CancelledError."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    waiting = threading.Event()
    while not begun() and thread.is_alive():
        waiting.wait(0.001)
    assert thread.is_alive(), raised
    cancel()
    thread.join(60)
    assert not thread.is_alive()
    (error,) = raised
    assert isinstance(error, CancelledError) and error.code == "cancelled"


def test_another_thread_stops_a_prepared_call(endless: dlc.CompiledModel) -> None:
    token = dlc.CancelToken()
    feeds = {name: array.copy() for name, array in ZEROS.items()}
    call = endless.prepare(feeds, cancel=token)
    context = call._call._slot.context
    _run_until_cancelled(call, token.cancel, lambda: context.launches > 10)
    with pytest.raises(CancelledError):  # the token stays set
        call()
    assert endless(ONES)["y"].tolist() == [32] * 5


def test_another_thread_stops_a_call(endless: dlc.CompiledModel) -> None:
    token, begun = dlc.CancelToken(), threading.Event()

    def run() -> None:
        begun.set()
        endless.run(None, ZEROS, cancel=token)

    _run_until_cancelled(run, token.cancel, begun.is_set)
    assert endless.run(["y"], ONES, cancel=dlc.CancelToken())[0].tolist() == [32] * 5


def test_terminate_stops_a_session() -> None:
    session = dlc.InferenceSession(ENDLESS.SerializeToString())
    options, begun = dlc.RunOptions(), threading.Event()

    def run() -> None:
        begun.set()
        session.run(None, ZEROS, options)

    def terminate() -> None:
        options.terminate = True

    _run_until_cancelled(run, terminate, begun.is_set)


def test_a_limit_stops_an_endless_loop() -> None:
    with dlc.compile(ENDLESS, cache=False, limits=Limits(loop_iterations=1000)) as model:
        with pytest.raises(LimitError, match="more iterations than its limit") as caught:
            model(ZEROS)
        assert caught.value.node == "node_y" and "loop_iterations" in (caught.value.hint or "")
        assert model(ONES)["y"].tolist() == [32] * 5
        call = model.prepare(ZEROS)
        for _ in range(2):
            with pytest.raises(LimitError):
                call()


@pytest.mark.parametrize("saved", [False, True])
def test_a_limit_counts_the_iterations_of_each_loop(saved: bool) -> None:
    model = dlc.compile(NESTED, cache=False, limits=Limits(loop_iterations=7))
    if saved:
        model = dlc.load(model.to_bytes())
    with model:
        for outer, inner in ((7, 7), (0, 100), (1, 7), (7, 0)):
            assert model(np.array(outer), np.array(inner))["y"] == outer * inner
        for outer, inner, node in ((8, 1, "node_y"), (8, 0, "node_y"), (2, 8, "node_y/body/the inner loop")):
            with pytest.raises(LimitError) as caught:
                model(np.array(outer), np.array(inner))
            assert caught.value.node == node


def test_evaluators_keep_the_limit() -> None:
    limits = Limits(loop_iterations=5)
    model = import_model(ENDLESS)
    with pytest.raises(LimitError) as caught:
        evaluate(model.graph, ZEROS, limits=limits)
    assert caught.value.node == "node_y"
    with pytest.raises(LimitError) as caught:
        evaluate_program(lower(model.graph, limits), [ZEROS["x"], ZEROS["limit"]])
    assert caught.value.node == "node_y"


def test_the_limit_is_part_of_what_the_cache_knows(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    with dlc.compile(NESTED) as model:
        assert model(np.array(3), np.array(9))["y"] == 27
    with dlc.compile(NESTED, limits=Limits(loop_iterations=4)) as model, pytest.raises(LimitError):
        model(np.array(3), np.array(9))


def test_a_loop_without_bound_or_condition_is_refused() -> None:
    text = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> forever (float[n] x) => (float[n] y) {'
        " yes = Constant <value = bool {1}> ()"
        ' y = Loop ("", yes, x) <body = step (int64 i, bool go, float[n] h) => (bool go2, float[n] g) {'
        " go2 = Identity(go) g = Add(h, h) }> }"
    )
    with pytest.raises(ModelError, match="never ends"):
        dlc.compile(text, cache=False)

"""Running native models: binding, contexts, threads, errors, host steps, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.errors import (
    CancelledError,
    IndexFault,
    InputError,
    InternalError,
    LimitError,
    PackageError,
    ResourceError,
    ShapeError,
)
from dlc.runtime.call import Binding, CancelToken, Interface, NativeModel, RunState, Site
from tests.runtime.guarded import guarded
from tests.runtime.native_code import compile_ir

#: A model of x: float32[n], mode: int64[1]. Outputs: y = x + bias of shape [n], and z = the value that the
#: arena held before, of shape [n, 2] though only one element of it is written. Guards: n <= 1,000,000 and,
#: during the run, mode != 2. Its arena has 64 + 4 * n bytes.
MODEL = """
declare void @dlc_launch(ptr, ptr, ptr, i64)
declare i64 @dlc_reserve_scratch(ptr, i64)
declare void @dlc_report_fault(ptr, i64, i64)
declare ptr @dlc_grow(ptr, i64, i64)
declare i64 @dlc_host_step(ptr, i64, ptr, ptr)

define void @add(ptr %args, i64 %chunk, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  %y.p = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %y.p
  %bias.p = getelementptr i64, ptr %args, i64 2
  %bias.address = load ptr, ptr %bias.p
  %bias = load float, ptr %bias.address
  %n.p = getelementptr i64, ptr %args, i64 3
  %n = load i64, ptr %n.p
  %first = mul i64 %chunk, 1000
  %above = add i64 %first, 1000
  %is.last = icmp slt i64 %n, %above
  %end = select i1 %is.last, i64 %n, i64 %above
  br label %next
next:
  %i = phi i64 [ %first, %entry ], [ %i.next, %next ]
  %from = getelementptr float, ptr %x, i64 %i
  %value = load float, ptr %from, align 1
  %sum = fadd float %value, %bias
  %to = getelementptr float, ptr %y, i64 %i
  store float %sum, ptr %to, align 1
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %end
  br i1 %more, label %next, label %out
out:
  ret void
}

define i64 @dlc_shapes(ptr %symbols, ptr %out) {
  %n = load i64, ptr %symbols
  %elements = mul i64 %n, 4
  %bytes = add i64 %elements, 64
  store i64 %bytes, ptr %out
  %y = getelementptr i64, ptr %out, i64 1
  store i64 %n, ptr %y
  %z = getelementptr i64, ptr %out, i64 2
  store i64 %n, ptr %z
  %z.2 = getelementptr i64, ptr %out, i64 3
  store i64 2, ptr %z.2
  %bad = icmp sgt i64 %n, 1000000
  %result = zext i1 %bad to i64
  ret i64 %result
}

define i64 @dlc_run(ptr %context, ptr %symbols, ptr %inputs, ptr %outputs, ptr %constants, ptr %arena) {
entry:
  %n = load i64, ptr %symbols
  %x = load ptr, ptr %inputs
  %mode.p = getelementptr ptr, ptr %inputs, i64 1
  %mode.address = load ptr, ptr %mode.p
  %mode = load i64, ptr %mode.address
  %y = load ptr, ptr %outputs
  %z.p = getelementptr ptr, ptr %outputs, i64 1
  %z = load ptr, ptr %z.p
  %bias = load ptr, ptr %constants
  %found.p = getelementptr i64, ptr %symbols, i64 1
  store i64 77, ptr %found.p
  %old.p = getelementptr i64, ptr %arena, i64 5
  %old = load double, ptr %old.p
  store double %old, ptr %z, align 1
  store double 0.0, ptr %old.p
  store ptr %x, ptr %arena
  %y.p = getelementptr i64, ptr %arena, i64 1
  store ptr %y, ptr %y.p
  %bias.p = getelementptr i64, ptr %arena, i64 2
  store ptr %bias, ptr %bias.p
  %n.p = getelementptr i64, ptr %arena, i64 3
  store i64 %n, ptr %n.p
  %above = add i64 %n, 999
  %chunks = sdiv i64 %above, 1000
  call void @dlc_launch(ptr %context, ptr @add, ptr %arena, i64 %chunks)
  switch i64 %mode, label %done [
    i64 1, label %fault
    i64 2, label %guard
    i64 3, label %host
    i64 4, label %memory
    i64 5, label %endless
    i64 6, label %unknown
    i64 7, label %grow
  ]
done:
  ret i64 0
fault:
  %fault.p = getelementptr i64, ptr %context, i64 6
  call void @dlc_report_fault(ptr %fault.p, i64 1, i64 5)
  call void @dlc_report_fault(ptr %fault.p, i64 0, i64 9)
  ret i64 0
guard:
  ret i64 1025
host:
  %status = call i64 @dlc_host_step(ptr %context, i64 4, ptr %outputs, ptr %symbols)
  ret i64 %status
memory:
  %refused = call i64 @dlc_reserve_scratch(ptr %context, i64 4611686018427387904)
  ret i64 %refused
endless:
  call void @dlc_launch(ptr %context, ptr @add, ptr %arena, i64 %chunks)
  %status.p = getelementptr i64, ptr %context, i64 5
  %stopped = load i64, ptr %status.p
  %is.stopped = icmp ne i64 %stopped, 0
  br i1 %is.stopped, label %done, label %endless
unknown:
  ret i64 99
grow:
  ; Storage 1 grows by a page at a time to 4096 * n bytes; word 512 * i of it is set to i + 1.
  br label %grow.next
grow.next:
  %i = phi i64 [ 0, %grow ], [ %i.next, %grow.store ]
  %i.next = add i64 %i, 1
  %bytes = mul i64 %i.next, 4096
  %address = call ptr @dlc_grow(ptr %context, i64 1, i64 %bytes)
  %failed = icmp eq ptr %address, null
  br i1 %failed, label %done, label %grow.store
grow.store:
  %word = mul i64 %i, 512
  %to = getelementptr i64, ptr %address, i64 %word
  store i64 %i.next, ptr %to
  %more = icmp slt i64 %i.next, %n
  br i1 %more, label %grow.next, label %done
}
"""

INTERFACE = Interface(
    symbols=("n",),
    inputs=2,
    output_ranks=(1, 2),
    run_symbols=1,
    storages=2,
    guards=(Site("n <= 1,000,000", "/reshape\x1b"), Site("mode != 2", "/check")),
    kernels=(Site("Gather", "/embedding"), Site("Add")),
)
BIAS = np.array([0.5], np.float32)
CODE = compile_ir(MODEL)


def load(**options: Any) -> NativeModel:
    return NativeModel([CODE], INTERFACE, [BIAS.data], **options)


class Arrays:
    """Inputs and outputs for n elements, between protected pages."""

    def __init__(self, n: int, mode: int = 0) -> None:
        self.x: NDArray[Any] = guarded((n,), np.float32)
        self.x[:] = np.arange(n)
        self.mode = np.array([mode])
        self.y: NDArray[Any] = guarded((n,), np.float32, at_end=n % 2 == 0)
        self.z = np.zeros((n, 2), np.float32)
        self.inputs = (self.x.ctypes.data, self.mode.ctypes.data)
        self.outputs = (self.y.ctypes.data, self.z.ctypes.data)

    def check(self) -> None:
        assert np.array_equal(self.y, self.x + np.float32(0.5))
        self.y[:] = -1

    @property
    def arena_before(self) -> float:
        """The word of the arena that the model saw."""
        return float(self.z.reshape(-1)[:2].view(np.float64)[0])


def test_bind_evaluates_shapes() -> None:
    model = load()
    assert model.bind((7,)) == Binding((7,), 92, ((7,), (7, 2)))
    assert model.bind((7,)) is model.bind((7,))
    assert model.bind((0,)).output_shapes == ((0,), (0, 2))


def test_bindings_are_bounded() -> None:
    model = load()
    first = model.bind((0,))
    for n in range(1, 400):
        model.bind((n,))
        assert model.bind((0,)) is first  # in use all the time
    one = model.bind((1,))
    assert len(model._bindings) <= 256
    assert one == model.bind((1,))


@pytest.mark.parametrize("symbols", [(1_000_001,), (-1,), (1 << 48,), (1 << 70,)])
def test_values_that_a_model_does_not_take(symbols: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=f"n = {symbols[0]}"):
        load().bind(symbols)


def test_a_failed_guard_names_its_node() -> None:
    with pytest.raises(ShapeError) as caught:
        load().bind((2_000_000,))
    assert caught.value.node == "/reshape\x1b"
    assert "n <= 1,000,000, where n = 2000000" in str(caught.value)
    assert str(caught.value).isprintable()
    with pytest.raises(InputError, match="1 symbols need values, not 2"):
        load().bind((1, 2))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_run(threads: int) -> None:
    model = load(threads=threads)
    for n in (1, 999, 1000, 1001, 25_000, 3):
        arrays = Arrays(n)
        for _ in range(5):
            model.run(model.bind((n,)), arrays.inputs, arrays.outputs)
            arrays.check()


def test_prepared_calls_repeat() -> None:
    model = load(threads=2)
    small, large = Arrays(10), Arrays(5000)
    calls = [model.prepare(model.bind((len(a.x),)), a.inputs, a.outputs) for a in (small, large)]
    del model
    gc.collect()
    for _ in range(10):
        for arrays, call in zip((small, large), calls):
            call()
            arrays.check()
            arrays.x += 1


def test_wrong_numbers_of_pointers() -> None:
    model, arrays = load(), Arrays(10)
    binding = model.bind((10,))
    with pytest.raises(ValueError):
        model.run(binding, arrays.inputs[:1], arrays.outputs)
    with pytest.raises(ValueError):
        model.run(binding, arrays.inputs, (*arrays.outputs, 0))
    model.run(binding, arrays.inputs, arrays.outputs)
    arrays.check()
    assert len(model._idle) == 1


def test_faults_name_the_first_kernel() -> None:
    model, bad, good = load(), Arrays(10, mode=1), Arrays(10)
    binding = model.bind((10,))
    with pytest.raises(IndexFault, match=r"Gather \(chunk 9\)") as caught:
        model.run(binding, bad.inputs, bad.outputs)
    assert caught.value.node == "/embedding"
    model.run(binding, good.inputs, good.outputs)
    good.check()


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        (2, ShapeError, r"mode != 2, where n = 10 \(node '/check'\)"),
        (4, ResourceError, "scratch"),
        (6, InternalError, "status 99"),
        (3, InternalError, "status 4"),
    ],
)
def test_errors_during_the_run(mode: int, error: type[Exception], message: str) -> None:
    model, arrays, good = load(), Arrays(10, mode), Arrays(10)
    with pytest.raises(error, match=message):
        model.run(model.bind((10,)), arrays.inputs, arrays.outputs)
    call = model.prepare(model.bind((10,)), arrays.inputs, arrays.outputs)
    with pytest.raises(error, match=message):
        call()
    model.run(model.bind((10,)), good.inputs, good.outputs)
    good.check()


# --- Host steps -----------------------------------------------------------------------------------


def stateless(function):
    """What makes a host that holds nothing and takes steps by `function`."""

    class Stateless:
        def __call__(self, step, buffers, symbols):
            function(step, buffers, symbols)

        def begin(self, objects):
            assert not objects

        def end(self):
            pass

    return Stateless


def test_host_steps_see_buffers_and_symbols() -> None:
    seen = []

    def host(step: int, buffers: int, symbols: int) -> None:
        values = (ctypes.c_int64 * 2).from_address(symbols)
        y = ctypes.c_void_p.from_address(buffers).value
        seen.append((step, list(values), y))

    model, arrays = load(host=stateless(host)), Arrays(10, mode=3)
    model.run(model.bind((10,)), arrays.inputs, arrays.outputs)
    assert seen == [(4, [10, 77], arrays.outputs[0])]
    arrays.check()


@pytest.mark.parametrize("error", [KeyError("absent"), KeyboardInterrupt(), ShapeError("odd")])
def test_what_a_host_step_raises_comes_out(error: BaseException) -> None:
    failing = [True]

    def host(step: int, buffers: int, symbols: int) -> None:
        if failing[0]:
            raise error

    model, arrays = load(host=stateless(host)), Arrays(10, mode=3)
    binding = model.bind((10,))
    with pytest.raises(type(error)) as caught:
        model.run(binding, arrays.inputs, arrays.outputs)
    assert caught.value is error
    failing[0] = False
    model.run(binding, arrays.inputs, arrays.outputs)


def test_a_host_step_may_run_another_model() -> None:
    inner, inner_arrays = load(threads=2), Arrays(5000)

    def host(step: int, buffers: int, symbols: int) -> None:
        inner.run(inner.bind((5000,)), inner_arrays.inputs, inner_arrays.outputs)

    model, arrays = load(host=stateless(host), threads=2), Arrays(5000, mode=3)
    model.run(model.bind((5000,)), arrays.inputs, arrays.outputs)
    arrays.check()
    inner_arrays.check()


# --- Sizes that depend on the data -----------------------------------------------------------------


def test_storages_grow_and_keep_their_content() -> None:
    model, arrays = load(), Arrays(300, mode=7)

    def collect(state: RunState) -> tuple[int, ...]:
        (unused, none), (address, size) = state.storages
        assert state.symbols == (300, 77) and unused == none == 0
        assert address % 4096 == 0 and 300 * 4096 <= size <= 600 * 4096
        words = np.ctypeslib.as_array((ctypes.c_int64 * (300 * 512)).from_address(address)).reshape(300, 512)
        assert not words[:, 1:].any()
        return tuple(words[:, 0].tolist())

    binding = model.bind((300,))
    for _ in range(2):
        result = model.run(binding, arrays.inputs, arrays.outputs, collect=collect)
        assert result == tuple(range(1, 301))
    assert model.run(binding, arrays.inputs, arrays.outputs) is None


def test_storages_have_a_limit() -> None:
    model, arrays, small = load(arena_limit=100_000), Arrays(300, mode=7), Arrays(24, mode=7)
    with pytest.raises(LimitError, match="depends on the data exceeds 100,000 bytes"):
        model.run(model.bind((300,)), arrays.inputs, arrays.outputs)
    model.run(model.bind((24,)), small.inputs, small.outputs)


def test_a_failing_collector_gives_the_context_back() -> None:
    model, arrays = load(contexts=1), Arrays(10)

    def collect(state: RunState) -> None:
        raise KeyError(state.symbols)

    for _ in range(2):
        with pytest.raises(KeyError):
            model.run(model.bind((10,)), arrays.inputs, arrays.outputs, collect=collect)


# --- Several threads ------------------------------------------------------------------------------


@pytest.mark.parametrize("contexts", [1, 2, 8])
def test_many_threads_use_one_model(contexts: int) -> None:
    model = load(threads=2, contexts=contexts)
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            arrays = Arrays(n)
            for _ in range(200):
                model.run(model.bind((n,)), arrays.inputs, arrays.outputs)
                arrays.check()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (10, 1500, 3000, 4500, 6001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert 1 <= len(model._idle) == model._made <= contexts


def test_a_call_releases_the_interpreter_and_can_be_cancelled() -> None:
    model, arrays, token = load(threads=2, contexts=1), Arrays(3000, mode=5), CancelToken()
    results: list[BaseException] = []

    def work() -> None:
        try:
            model.run(model.bind((3000,)), arrays.inputs, arrays.outputs, token)
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive() and not results
    token.cancel()
    thread.join(timeout=10)
    assert [type(result) for result in results] == [CancelledError]
    good = Arrays(3000)
    model.run(model.bind((3000,)), good.inputs, good.outputs)  # the token is not that of later calls
    good.check()
    with pytest.raises(CancelledError):
        model.run(model.bind((3000,)), good.inputs, good.outputs, token)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_contexts_of_lost_threads() -> None:
    model, endless, token = load(threads=2, contexts=1), Arrays(3000, mode=5), CancelToken()
    thread = threading.Thread(target=_ignore_cancel, args=(model, endless, token))
    thread.start()
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            arrays = Arrays(3000)
            model.run(model.bind((3000,)), arrays.inputs, arrays.outputs)
            arrays.check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    token.cancel()
    thread.join()
    assert code == 0


def _ignore_cancel(model: NativeModel, arrays: Arrays, token: CancelToken) -> None:
    with pytest.raises(CancelledError):
        model.run(model.bind((3000,)), arrays.inputs, arrays.outputs, token)


# --- Memory ---------------------------------------------------------------------------------------


def test_the_arena_is_kept_between_runs_unless_it_is_poisoned() -> None:
    for poison in (False, True):
        model, arrays = load(poison=poison), Arrays(10)
        binding = model.bind((10,))
        for _ in range(2):
            model.run(binding, arrays.inputs, arrays.outputs)
        assert np.isnan(arrays.arena_before) == poison
        call = model.prepare(binding, arrays.inputs, arrays.outputs)
        call()
        call()
        assert np.isnan(arrays.arena_before) == poison


def test_the_arena_has_a_limit() -> None:
    model, arrays = load(arena_limit=1000), Arrays(235)
    with pytest.raises(LimitError, match="the model's activations: 1,004 bytes exceed the limit of 1,000"):
        model.run(model.bind((235,)), arrays.inputs, arrays.outputs)
    small = Arrays(234)
    model.run(model.bind((234,)), small.inputs, small.outputs)
    small.check()


def test_memory_is_free_as_soon_as_the_model_is() -> None:
    """Without waiting for the collector of cycles, and also that of scratch and arena."""
    gc.collect()
    gc.disable()
    try:
        before = _mappings()
        for _ in range(20):
            model, arrays = load(host=stateless(lambda *_: None)), Arrays(700_000)
            model.run(model.bind((700_000,)), arrays.inputs, arrays.outputs)
            arrays = Arrays(1000, mode=7)
            model.run(model.bind((1000,)), arrays.inputs, arrays.outputs)
            del model, arrays
        assert _mappings() - before < 20
    finally:
        gc.enable()


def _mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def test_profile_lists_the_launches() -> None:
    model, arrays = load(threads=2), Arrays(5000)
    (launch,) = model.profile(model.bind((5000,)), arrays.inputs, arrays.outputs)
    assert (launch.kernel, launch.chunks) == (model.library.address("add"), 5)
    assert launch.start < launch.end
    arrays.check()


def test_unusable_code_and_options() -> None:
    with pytest.raises(PackageError):
        NativeModel([compile_ir("define void @f() {\n  ret void\n}")], INTERFACE, [])
    with pytest.raises(InputError, match="context"):
        load(contexts=0)


def test_a_closed_model_does_not_run() -> None:
    model, arrays = load(), Arrays(10)
    binding = model.bind((10,))
    model.run(binding, arrays.inputs, arrays.outputs)
    model.close()
    with pytest.raises(InputError, match="closed"):
        model.run(binding, arrays.inputs, arrays.outputs)

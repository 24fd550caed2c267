"""What drivers and kernels ask of the runtime: faults, cancelling, host steps, profiles, the float mode."""

from __future__ import annotations

import ctypes
import platform
import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.runtime.abi import (
    HOST_FUNCTION,
    NO_FAULT,
    CallBlock,
    Context,
    LaunchRecord,
    Status,
    decode_fault,
)
from dlc.runtime.library import Pool, runtime
from dlc.runtime.loader import JitLibrary
from tests.runtime.native_code import compile_ir, kernels, launch, new_context, words

Words = ctypes.Array[ctypes.c_int64]


def run(context: Context, driver: str, symbols: Words, arena: Words | None = None) -> int:
    block = CallBlock(
        driver=kernels().address(driver),
        context=ctypes.addressof(context),
        symbols=ctypes.addressof(symbols),
        arena=None if arena is None else ctypes.addressof(arena),
    )
    return runtime().call(ctypes.addressof(block))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_smallest_fault_is_kept(threads: int) -> None:
    context = new_context(threads)
    faults = [(kernel, chunk) for kernel in (3, 5, 9) for chunk in (0, 7, 40)]
    random.Random(threads).shuffle(faults)
    for count in range(1, len(faults) + 1):
        context.fault = NO_FAULT
        for kernel, first in faults[:count]:
            address = ctypes.addressof(context) + Context.fault.offset
            launch(context, "bad_index", words(address, kernel, first), 50)
        assert decode_fault(context.fault) == min(faults[:count])


def test_a_fault_is_the_status_of_the_call_and_does_not_outlive_it() -> None:
    code = """
    declare void @dlc_report_fault(ptr, i64, i64)
    define i64 @driver(ptr %context, ptr %symbols, ptr %i, ptr %o, ptr %c, ptr %arena) {
      %is.bad = load i64, ptr %symbols
      %bad = icmp ne i64 %is.bad, 0
      br i1 %bad, label %report, label %out
    report:
      %fault = getelementptr i64, ptr %context, i64 6
      call void @dlc_report_fault(ptr %fault, i64 8388607, i64 1099511627775)
      br label %out
    out:
      ret i64 0
    }
    """
    library = JitLibrary([compile_ir(code)], runtime().symbols)
    context, symbols = new_context(1), words(1)
    block = CallBlock(
        driver=library.address("driver"),
        context=ctypes.addressof(context),
        symbols=ctypes.addressof(symbols),
    )
    assert runtime().call(ctypes.addressof(block)) == Status.FAULT
    # The largest kernel and chunk that can be told apart from "no fault".
    assert decode_fault(context.fault) == ((1 << 23) - 1, (1 << 40) - 1)
    symbols[0] = 0
    assert runtime().call(ctypes.addressof(block)) == Status.OK
    assert context.fault == NO_FAULT


def test_cancelling_stops_between_launches() -> None:
    context, counter = new_context(2), words(0, 0)
    word = ctypes.addressof(counter) + 8
    context.cancel = word
    assert (
        run(context, "count_launches", words(100), words(ctypes.addressof(counter), word, 9))
        == Status.CANCELLED
    )
    assert counter[0] == 10 and context.launches == 10
    counter[0], counter[1] = 0, 0
    assert (
        run(context, "count_launches", words(100), words(ctypes.addressof(counter), word, 1000)) == Status.OK
    )
    assert counter[0] == 100


def test_profile_records_launches_up_to_its_capacity() -> None:
    context, counter = new_context(1), words(0, 0)
    records = (LaunchRecord * 3)()
    context.profile, context.profile_capacity = ctypes.addressof(records), 2
    context.step = 41  # as a driver says
    arena = words(ctypes.addressof(counter), ctypes.addressof(counter) + 8, -1)
    assert run(context, "count_launches", words(5), arena) == Status.OK
    assert context.profile_count == 5
    assert [record.kernel for record in records] == [kernels().address("count_and_cancel")] * 2 + [None]
    assert records[0].chunks == 1 and records[0].step == 41
    assert 0 < records[0].start <= records[0].end <= records[1].start <= records[1].end


@pytest.mark.parametrize(
    ("answer", "status", "launches"), [(0, Status.OK, 1), (5, Status.HOST_ERROR, 0)], ids=["works", "fails"]
)
def test_host_steps(answer: int, status: Status, launches: int) -> None:
    seen: list[tuple[int | None, int, int | None]] = []

    def host(data: int | None, step: int, buffers: int | None, symbols: int | None) -> int:
        seen.append((data, step, symbols))
        return answer

    callback = HOST_FUNCTION(host)
    context, counter, symbols = new_context(1), words(0, 0), words(0)
    context.host, context.host_data = ctypes.cast(callback, ctypes.c_void_p).value, 1234
    arena = words(ctypes.addressof(counter), ctypes.addressof(counter) + 8, -1)
    assert run(context, "ask_host", symbols, arena) == status
    assert seen == [(1234, 7, ctypes.addressof(symbols))]
    assert counter[0] == launches


def test_a_host_step_without_a_host_fails() -> None:
    counter = words(0, 0)
    arena = words(ctypes.addressof(counter), ctypes.addressof(counter) + 8, -1)
    assert run(new_context(1), "ask_host", words(0), arena) == Status.HOST_ERROR


@pytest.fixture
def upward_rounding() -> Iterator[None]:
    """The caller's float mode is not the default one."""
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround()
    assert libm.fesetround({"x86_64": 0x800, "aarch64": 0x400000}[platform.machine()]) == 0
    yield
    libm.fesetround(before)


def _rounds_upward() -> bool:
    one, tiny = 1.0, float(np.finfo(np.float64).tiny)
    return one + tiny > one


def test_calls_run_with_the_default_float_mode_and_restore_the_callers(upward_rounding: None) -> None:
    results = np.zeros(64, np.int64)
    assert _rounds_upward()
    assert run(new_context(3), "check_mode", words(64), _float_mode_args(results)) == Status.OK
    assert _rounds_upward()
    assert results.tolist() == [1] * 64


def test_workers_do_not_inherit_the_float_mode_of_their_creator(upward_rounding: None) -> None:
    """A launch without dlc_call, so that the workers are created in the caller's mode: it alone rounds
    upward."""
    pool = Pool(runtime().symbols)
    context, ids, results = new_context(3, pool), np.zeros(64, np.int64), np.zeros(64, np.int64)
    launch(context, "float_mode_slow", _float_mode_args(results, ids.ctypes.data), 64)
    pool.close()
    own = threading.get_native_id()
    assert len(set(ids.tolist())) > 1
    assert [result == 0 for result in results] == [thread == own for thread in ids.tolist()]


def _float_mode_args(results: NDArray[np.int64], *more: int) -> Words:
    tiny, half = (int(bits) for bits in np.array([5e-324, 2.0**-53]).view(np.int64))
    return words(results.ctypes.data, tiny, half, *more)

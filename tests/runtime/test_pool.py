"""The thread pool: each chunk once and in order, with any number of threads, and asleep when idle."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import resource
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dlc.runtime.abi import CallBlock, Context, Status
from dlc.runtime.library import Pool, runtime
from tests.runtime.native_code import kernels, launch, new_context, words


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(runtime().symbols)
    yield pool
    pool.close()


class Chain:
    """The driver `chain`: K kernels of n chunks, each of which reads its neighbour's last result."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.buffers = np.zeros((3, 64), np.int64)
        first, second, count = (int(row.ctypes.data) for row in self.buffers)
        self.block = words(0, 0, first, second, count, 0, second, first, count, 0)
        self.call = CallBlock(
            driver=kernels().address("chain"),
            context=ctypes.addressof(context),
            arena=ctypes.addressof(self.block),
        )

    def run(self, launches: int, chunks: int) -> None:
        """Check that each chunk ran once a kernel, after all chunks of the kernel before."""
        self.buffers[:] = 0
        self.block[0], self.block[1], self.block[5], self.block[9] = launches, chunks, chunks, chunks
        assert runtime().call(ctypes.addressof(self.call)) == Status.OK
        last, before = (0, 1) if launches % 2 == 0 else (1, 0)
        assert (self.buffers[last, :chunks] == launches).all()
        assert (self.buffers[before, :chunks] == launches - 1).all()
        assert (self.buffers[2, :chunks] == launches).all()
        assert (self.buffers[:, chunks:] == 0).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_random_programs_are_exact(pool: Pool, threads: int) -> None:
    chain = Chain(new_context(threads, pool))
    rng = random.Random(threads)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        chain.run(rng.randint(1, 60), rng.randint(1, 64))
        if rng.random() < 0.02:
            time.sleep(0.0003)  # long enough for the workers to fall asleep
    assert pool.threads == threads


def test_changing_thread_counts_share_one_pool(pool: Pool) -> None:
    chains = [Chain(new_context(threads, pool)) for threads in (1, 2, 3, 5)]
    rng = random.Random(0)
    for _ in range(400):
        rng.choice(chains).run(rng.randint(1, 20), rng.randint(1, 64))
    assert pool.threads == 5


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_call_uses_no_more_threads_than_it_may(pool: Pool, threads: int) -> None:
    """Though further workers are awake, because a call that may use them has just ended."""
    many, few = new_context(6, pool), new_context(threads, pool)
    others, ids = np.zeros(64, np.int64), np.zeros(24, np.int64)
    arena = words(others.ctypes.data, 0, ids.ctypes.data, 50)
    contexts = words(ctypes.addressof(many), ctypes.addressof(few))
    call = CallBlock(
        driver=kernels().address("two_teams"),
        context=ctypes.addressof(many),
        inputs=ctypes.addressof(contexts),
        arena=ctypes.addressof(arena),
    )
    teams = []
    for _ in range(100):
        assert runtime().call(ctypes.addressof(call)) == Status.OK
        teams.append(set(ids.tolist()))
    assert max(map(len, teams)) == threads
    assert len(set.union(*teams)) == threads
    assert threading.get_native_id() in set.union(*teams)


def test_a_kernel_of_one_chunk_runs_on_the_caller_and_starts_no_thread(pool: Pool) -> None:
    ids = np.zeros(1, np.int64)
    launch(new_context(4, pool), "record_thread", words(ids.ctypes.data, 0), 1)
    assert ids[0] == threading.get_native_id()
    assert pool.threads == 1


def test_no_chunks_and_no_pool(pool: Pool) -> None:
    counter = words(0, 0)
    context = new_context(2, pool)
    args = words(ctypes.addressof(counter), ctypes.addressof(counter) + 8, -1)
    launch(context, "count_and_cancel", args, 0)
    launch(context, "count_and_cancel", args, -5)
    assert counter[0] == 0 and context.launches == 0
    context.pool = None
    launch(context, "count_and_cancel", args, 10)
    assert counter[0] == 10 and context.launches == 1 and context.chunks == 10


def test_more_chunks_than_a_ticket_holds(pool: Pool) -> None:
    counter = words(0, 0)
    chunks = (1 << 24) + 5
    args = words(ctypes.addressof(counter), ctypes.addressof(counter) + 8, -1)
    launch(new_context(2, pool), "count_and_cancel", args, chunks)
    assert counter[0] == chunks


def test_idle_workers_sleep(pool: Pool) -> None:
    chain = Chain(new_context(3, pool))
    chain.run(50, 64)
    time.sleep(0.02)
    ticks = _worker_ticks()
    assert len(ticks) >= 2
    time.sleep(0.3)
    assert _worker_ticks() == ticks
    wakeups = pool.wakeups
    chain.run(50, 64)
    assert pool.wakeups > wakeups


def _worker_ticks() -> dict[str, int]:
    """CPU time of each worker of this process, in ticks of 10 ms."""
    ticks = {}
    for task in Path("/proc/self/task").iterdir():
        status = (task / "stat").read_text()
        name, fields = (
            status[status.index("(") + 1 : status.rindex(")")],
            status[status.rindex(")") + 2 :].split(),
        )
        if name == "dlc-worker":
            ticks[task.name] = int(fields[11]) + int(fields[12])
    return ticks


def test_workers_block_signals(pool: Pool) -> None:
    Chain(new_context(3, pool)).run(2, 64)
    for task in _worker_ticks():
        status = Path(f"/proc/self/task/{task}/status").read_text()
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
        assert blocked & 0x7FFF_FFFC == 0x7FFF_FFFC & ~(1 << 8 | 1 << 18), hex(blocked)  # all but KILL, STOP


def test_two_callers_at_once(pool: Pool) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            chain = Chain(new_context(2, pool))
            rng = random.Random(seed)
            for _ in range(1500):
                chain.run(rng.randint(1, 10), rng.randint(1, 64))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_its_own_workers(pool: Pool) -> None:
    chain = Chain(new_context(3, pool))
    chain.run(10, 64)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert pool.threads == 1
            for _ in range(50):
                chain.run(10, 64)
            assert pool.threads == len(os.listdir("/proc/self/task")) == 3
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    chain.run(10, 64)
    assert pool.threads == 3


def test_refused_threads_are_done_without(pool: Pool) -> None:
    """A child whose limit on processes is reached computes alone, and does not ask again at each launch."""
    chain = Chain(new_context(4, pool))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            os.setresuid(12345, 12345, 12345)  # the limit does not bind root
            resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
            chain.run(10, 64)
            resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
            chain.run(10, 64)
            assert pool.threads == 1
            status = 0
        except PermissionError:
            status = 77
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 77:
        pytest.skip("needs the right to change the user")
    assert code == 0


def test_scratch_blocks_are_separate_and_large_enough(pool: Pool) -> None:
    context = new_context(3, pool)
    for size in (1000, 5_000_000, 100):  # grows, then stays
        _reserve(context, size)
        blocks: set[int] = set()
        for _ in range(200):  # on a busy machine a worker may come too late for all chunks of a launch
            errors, addresses = words(0), np.zeros(12, np.int64)
            args = words(size // 8, ctypes.addressof(errors), addresses.ctypes.data)
            launch(context, "fill_scratch", args, 12)
            assert errors[0] == 0
            blocks |= set(addresses.tolist())
            if len(blocks) > 1 and context.scratch in blocks:
                break
        assert 1 < len(blocks) <= 3 and context.scratch in blocks
        assert all(block % 4096 == 0 for block in blocks)
        assert all(after - before >= size for before, after in itertools.pairwise(sorted(blocks)))
    assert context.scratch_bytes >= 5_000_000
    runtime().release_memory(context)
    assert context.scratch is None and context.scratch_bytes == 0


@pytest.mark.parametrize("size", [-1, 1 << 62, 1 << 47])
def test_scratch_that_cannot_be_had(pool: Pool, size: int) -> None:
    context = new_context(2, pool)
    symbols = words(size)
    call = CallBlock(
        driver=kernels().address("reserve"),
        context=ctypes.addressof(context),
        symbols=ctypes.addressof(symbols),
    )
    assert runtime().call(ctypes.addressof(call)) == Status.NO_MEMORY
    assert context.scratch_bytes == 0
    symbols[0] = 10
    assert runtime().call(ctypes.addressof(call)) == Status.OK
    runtime().release_memory(context)


def _reserve(context: Context, size: int) -> None:
    symbols = words(size)
    call = CallBlock(
        driver=kernels().address("reserve"),
        context=ctypes.addressof(context),
        symbols=ctypes.addressof(symbols),
    )
    assert runtime().call(ctypes.addressof(call)) == Status.OK

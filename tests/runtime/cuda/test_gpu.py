"""The same on a real GPU, where there is one: copies, a kernel of Triton, graphs, faults, other libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.errors import ResourceError, UnsupportedError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.graph import GraphCache, Record
from dlc.runtime.cuda.launch import Launch
from dlc.runtime.cuda.memory import DeviceMemory, MemoryPool, Staging, copy
from dlc.runtime.cuda.module import Kernel
from dlc.runtime.cuda.stream import Event, Stream
from tests.runtime.cuda.compiled import BLOCK, compiled_add

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[3]
N = 1000
GRID = (-(-N // BLOCK), 1, 1)


@pytest.fixture
def gpu_stream(gpu: Device) -> Iterator[Stream]:
    with Stream(gpu) as stream:
        yield stream


@pytest.fixture
def add(gpu: Device) -> Iterator[Kernel]:
    major, minor = gpu.capability
    with Kernel(gpu, compiled_add(10 * major + minor)) as kernel:
        yield kernel


def uploaded(gpu: Device, stream: Stream, values: NDArray[np.float32]) -> DeviceMemory:
    memory = DeviceMemory(gpu, values.nbytes)
    memory.upload(values, stream)
    return memory


def downloaded(memory: DeviceMemory, stream: Stream) -> NDArray[np.float32]:
    values = np.empty(memory.size // 4, np.float32)
    memory.download(values, stream)
    stream.synchronize()
    return values


def test_the_device(gpu: Device) -> None:
    assert gpu.capability >= (5, 0) and gpu.multiprocessors > 0 and gpu.shared_memory >= 48 << 10
    free, total = gpu.free_memory()
    assert 0 < free <= total <= gpu.memory * 1.01


def test_copies_and_fills(gpu: Device, gpu_stream: Stream) -> None:
    values = np.random.default_rng(0).standard_normal(1 << 16, np.float32)
    with uploaded(gpu, gpu_stream, values) as memory, DeviceMemory(gpu, memory.size) as other:
        assert memory.address % 256 == 0
        copy(other.address, memory.address, memory.size, gpu_stream)
        assert np.array_equal(downloaded(other, gpu_stream), values)
        other.fill(0, gpu_stream)
        assert not downloaded(other, gpu_stream).any()
        with Staging(gpu) as staging:
            assert staging.read(memory.address + 40, 8, gpu_stream) == values[10:12].tobytes()


def test_a_kernel_of_triton(gpu: Device, gpu_stream: Stream, add: Kernel) -> None:
    x = np.arange(N, dtype=np.float32)
    y = np.full(N, 0.5, np.float32)
    with (
        uploaded(gpu, gpu_stream, x) as first,
        uploaded(gpu, gpu_stream, y) as second,
        DeviceMemory(gpu, 4 * N + 64) as sum_,
        Event(gpu) as start,
        Event(gpu) as end,
    ):
        sum_.fill(0xFF, gpu_stream)
        launch = Launch(add, GRID, (first.address, second.address, sum_.address, N))
        with gpu:
            start.record(gpu_stream)
            launch(gpu_stream)
            end.record(gpu_stream)
        result = downloaded(sum_, gpu_stream)
        assert np.array_equal(result[:N], x + y) and np.isnan(result[N:]).all()
        assert 0 < end.seconds_since(start) < 10
        launch.patch(0, second.address)
        with gpu:
            launch(gpu_stream)
        assert np.array_equal(downloaded(sum_, gpu_stream)[:N], y + y)
    assert add.registers > 0 and add.local_memory == 0


def test_clusters(gpu: Device, gpu_stream: Stream) -> None:
    if gpu.capability < (9, 0):
        pytest.skip(f"{gpu.name} has no clusters of blocks")
    major, minor = gpu.capability
    x = np.arange(N, dtype=np.float32)
    binary = compiled_add(10 * major + minor, num_ctas=2)
    with uploaded(gpu, gpu_stream, x) as memory, Kernel(gpu, binary) as kernel:
        with gpu:
            Launch(kernel, GRID, (memory.address, memory.address, memory.address, N))(gpu_stream)
        assert np.array_equal(downloaded(memory, gpu_stream), x + x)


def test_graphs(gpu: Device, gpu_stream: Stream, add: Kernel) -> None:
    x = np.arange(N, dtype=np.float32)
    with (
        uploaded(gpu, gpu_stream, x) as first,
        uploaded(gpu, gpu_stream, 2 * x) as second,
        DeviceMemory(gpu, 4 * N) as total,
    ):

        def record(source: DeviceMemory, times: int) -> Record:
            launch = Launch(add, GRID, (source.address, total.address, total.address, N))

            def run(stream: Stream) -> None:
                total.fill(0, stream)
                for _ in range(times):
                    launch(stream)

            return run

        cache = GraphCache(gpu)
        for source, factor in ((first, 1), (first, 1), (second, 2)):
            with gpu:
                cache.get(3, (source.address,), record(source, 3)).launch(gpu_stream)
            assert np.array_equal(downloaded(total, gpu_stream), 3 * factor * x)
        assert (cache.captures, cache.updates, cache.builds) == (2, 1, 1)
        # Under a key whose number of launches changed, the graph is replaced.
        with gpu:
            cache.get(3, (first.address,), record(first, 5)).launch(gpu_stream)
        assert np.array_equal(downloaded(total, gpu_stream), 5 * x)
        assert (cache.captures, cache.updates, cache.builds) == (3, 1, 2)
        cache.close()


def test_pools(gpu: Device, gpu_stream: Stream) -> None:
    with MemoryPool(gpu, keep=1 << 24) as pool:
        addresses = set()
        for _ in range(3):
            with pool.allocate(1 << 20, gpu_stream) as memory:
                memory.fill(1, gpu_stream)
                addresses.add(memory.address)
        gpu_stream.synchronize()
        assert len(addresses) == 1


def test_more_memory_than_there_is(gpu: Device) -> None:
    with pytest.raises(ResourceError, match="bytes are free"):
        DeviceMemory(gpu, 2 * gpu.memory)


def test_memory_and_streams_of_torch(gpu: Device, add: Kernel) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs a PyTorch built for CUDA")
    x = torch.arange(N, dtype=torch.float32, device="cuda")
    y, z = torch.full_like(x, 2.0), torch.empty_like(x)
    launch = Launch(add, GRID, (x.data_ptr(), y.data_ptr(), z.data_ptr(), N))
    with gpu:
        launch(Stream(gpu, torch.cuda.current_stream().cuda_stream))
    assert torch.equal(z, x + y)


def in_new_process(body: str) -> str:
    """What a Python program prints that has opened the GPU as `gpu`."""
    start = "from dlc.runtime.cuda import *\nimport os\ngpu = open_device()\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", start + body]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fault_is_an_error_that_says_so(gpu: Device, add: Kernel) -> None:
    printed = in_new_process(
        "from dlc.errors import InternalError\n"
        "from tests.runtime.cuda.compiled import compiled_add\n"
        f"kernel = Kernel(gpu, compiled_add({int(gpu.arch[3:])}))\n"
        "memory, stream = DeviceMemory(gpu, 4096), Stream(gpu)\n"
        "with gpu:\n"
        "    Launch(kernel, (1, 1, 1), (4096, 4096, 4096, 100))(stream)\n"
        "try:\n"
        "    stream.synchronize()\n"
        "except InternalError as error:\n"
        "    print(error)\n"
        "memory.close()\n"
    )
    assert "a kernel failed on the GPU" in printed and "CUDA_ERROR_ILLEGAL_ADDRESS" in printed


def test_a_forked_child_is_told_so(gpu: Device) -> None:
    printed = in_new_process(
        "from dlc.errors import UnsupportedError\n"
        "memory = DeviceMemory(gpu, 4096)\n"
        "if not os.fork():\n"
        "    try:\n"
        "        DeviceMemory(gpu, 4096)\n"
        "    except UnsupportedError as error:\n"
        "        print(error, flush=True)\n"
        "    memory.close()\n"
        "    os._exit(0)\n"
        "print(os.wait()[1])\n"
        "memory.fill(0, Stream(gpu))\n"
    )
    assert "before this process was forked" in printed and printed.endswith("0\n")


def test_an_ordinal_that_does_not_exist(gpu: Device) -> None:
    with pytest.raises(UnsupportedError, match="opening GPU 1000"):
        Device(gpu.driver, 1000)

"""Allocations, copies, fills, streams and events, on memory of the host in place of a GPU's."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from dlc.errors import InternalError, LimitError, ResourceError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.memory import DeviceMemory, MemoryPool, Staging, copy, fill
from dlc.runtime.cuda.stream import Event, Stream
from tests.runtime.cuda.fake import FakeCuda


def test_copies_there_and_back(fake: FakeCuda, device: Device, stream: Stream) -> None:
    there = np.arange(100, dtype=np.int32).reshape(4, 25)
    back = np.zeros(50, np.int32)
    with DeviceMemory(device, 400) as memory:
        assert memory.address % 256 == 0 and memory.size == 400
        memory.upload(there, stream)
        assert fake.bytes_at(memory.address, 400) == there.tobytes()
        memory.download(back, stream, offset=200)
        memory.upload(there[:1], stream, offset=300)
        assert fake.bytes_at(memory.address, 400) == there.tobytes()[:300] + there[0].tobytes()
    assert np.array_equal(back, np.arange(50, 100))
    assert not fake.allocations


def test_fills_and_copies_within_the_device(fake: FakeCuda, device: Device, stream: Stream) -> None:
    with DeviceMemory(device, 256) as source, DeviceMemory(device, 256) as target:
        source.fill(0xAB, stream)
        target.fill(0, stream)
        copy(target.address + 16, source.address, 32, stream)
        fill(target.address + 20, 7, 4, stream)
        assert fake.bytes_at(target.address, 64) == (
            bytes(16) + b"\xab" * 4 + b"\7" * 4 + b"\xab" * 24 + bytes(16)
        )


def test_nothing_is_copied_where_nothing_is(fake: FakeCuda, device: Device, stream: Stream) -> None:
    empty = np.zeros((0, 3), np.float32)
    with DeviceMemory(device, 0) as memory:
        memory.upload(empty, stream)
        memory.download(empty, stream)
        memory.fill(0, stream)
    assert not {name for name in fake.calls if "Memcpy" in name or "Memset" in name}


def test_what_is_out_of_bounds_is_refused(device: Device, stream: Stream) -> None:
    with DeviceMemory(device, 16) as memory:
        for offset in (-1, 1, 17):
            with pytest.raises(ValueError, match="do not lie within 16 bytes"):
                memory.upload(np.zeros(16, np.uint8), stream, offset)
        with pytest.raises(ValueError, match="contiguous"):
            memory.upload(np.zeros((4, 4), np.uint8)[:, 1], stream)
        constant = np.zeros(4, np.uint8)
        constant.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            memory.download(constant, stream)
    with pytest.raises(ValueError, match="not negative"):
        DeviceMemory(device, -1)


def test_sizes_that_do_not_fit(fake: FakeCuda, device: Device) -> None:
    with DeviceMemory(device, fake.memory - 1000), pytest.raises(ResourceError) as raised:
        DeviceMemory(device, 1001, what="activations")
    assert raised.value.message == (
        "activations: 1,001 bytes cannot be allocated on Fake H200: 1,000 of 16,777,216 bytes are free"
    )
    with pytest.raises(LimitError, match=r"1,001 bytes exceed the limit of 1,000"):
        DeviceMemory(device, 1001, limit=1000)
    assert not fake.allocations


def test_other_failures_of_an_allocation(fake: FakeCuda, device: Device) -> None:
    fake.fail["cuMemAlloc_v2"] = 700
    with pytest.raises(InternalError, match="allocating 8 bytes"):
        DeviceMemory(device, 8)
    fake.fail.update({"cuMemAlloc_v2": 2, "cuMemGetInfo_v2": 1})
    with pytest.raises(ResourceError, match="16,777,216 bytes in all"):
        DeviceMemory(device, 8)


def test_pools(fake: FakeCuda, device: Device, stream: Stream) -> None:
    with MemoryPool(device, keep=1 << 20) as pool:
        assert fake.pools == {pool.handle: 1 << 20}
        with pool.allocate(1000, stream) as memory:
            memory.fill(1, stream)
            assert fake.bytes_at(memory.address, 1000) == b"\1" * 1000
        assert not fake.allocations and fake.calls["cuMemFreeAsync"] == 1
        with pytest.raises(ResourceError, match=r"result: .* cannot be allocated"):
            pool.allocate(fake.memory + 1, stream, what="result")
    assert not fake.pools


def test_pooled_memory_keeps_its_stream_and_pool(fake: FakeCuda, device: Device) -> None:
    pool = MemoryPool(device, keep=0)
    memory = pool.allocate(100, Stream(device))
    del pool
    gc.collect()
    assert len(fake.streams) == 2 and fake.pools
    memory.close()
    del memory
    gc.collect()
    assert fake.streams == {0} and not fake.pools and not fake.allocations


def test_small_reads_through_staging(fake: FakeCuda, device: Device, stream: Stream) -> None:
    with DeviceMemory(device, 64) as memory, Staging(device, 16) as staging:
        memory.upload(np.arange(8), stream)
        assert staging.read(memory.address + 24, 16, stream) == np.array([3, 4]).tobytes()
        assert fake.calls["cuStreamSynchronize"] == 1
        assert staging.read(memory.address, 0, stream) == b""
        with pytest.raises(ValueError, match="17 bytes do not fit into 16 bytes"):
            staging.read(memory.address, 17, stream)
        assert len(fake.pinned) == 1
    assert not fake.pinned


def test_streams_of_others_are_not_destroyed(fake: FakeCuda, device: Device) -> None:
    with Stream(device, 0) as stream:
        stream.synchronize()
        assert stream.is_idle()
    assert fake.calls["cuStreamDestroy_v2"] == 0


def test_faults_are_raised_where_a_stream_is_waited_for(fake: FakeCuda, stream: Stream) -> None:
    fake.fail["cuStreamQuery"] = 600
    assert not stream.is_idle()
    fake.fail.update({"cuStreamQuery": 700, "cuStreamSynchronize": 700})
    for wait in (stream.is_idle, stream.synchronize):
        with pytest.raises(InternalError, match="a kernel failed on the GPU") as raised:
            wait()
        assert raised.value.hint is not None and "CUDA_LAUNCH_BLOCKING=1" in raised.value.hint


def test_events_order_and_measure(fake: FakeCuda, device: Device, stream: Stream) -> None:
    with Event(device) as start, Event(device) as end, Stream(device) as other:
        with DeviceMemory(device, 256) as memory:
            start.record(stream)
            memory.fill(0, stream)
            memory.fill(1, stream)
            end.record(stream)
            other.wait(end)
        end.synchronize()
        assert end.seconds_since(start) == pytest.approx(0.002)
    assert fake.calls["cuStreamWaitEvent"] == 1 and not fake.events

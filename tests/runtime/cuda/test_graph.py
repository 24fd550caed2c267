"""Graphs: recording, replaying, updating, and which are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.errors import InternalError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.graph import Graph, GraphCache, Record
from dlc.runtime.cuda.launch import Launch
from dlc.runtime.cuda.memory import DeviceMemory
from dlc.runtime.cuda.module import Kernel
from dlc.runtime.cuda.stream import Stream
from tests.runtime.cuda.fake import FakeCuda
from tests.runtime.cuda.kernels import add_body, binary

N = 16


class Sums:
    """Memory for N numbers each: a, b, c, d; the kernel add is launched on them."""

    def __init__(self, device: Device, fake: FakeCuda) -> None:
        fake.kernels["add"].body = add_body
        self.kernel = Kernel(device, binary())
        self.stream = Stream(device)
        self.memory = {name: DeviceMemory(device, 4 * N) for name in "abcd"}
        for number, memory in enumerate(self.memory.values()):
            memory.upload(np.full(N, 10**number, np.float32), self.stream)

    def address(self, name: str) -> int:
        return self.memory[name].address

    def record(self, *sums: str) -> Record:
        """Launches z = x + y for each "xyz"."""
        launches = [
            Launch(self.kernel, (1, 1, 1), (*(self.address(name) for name in names), N)) for names in sums
        ]

        def record(stream: Stream) -> None:
            for launch in launches:
                launch(stream)

        return record

    def value(self, name: str) -> float:
        result: NDArray[np.float32] = np.zeros(N, np.float32)
        self.memory[name].download(result, self.stream)
        assert (result == result[0]).all()
        return float(result[0])

    def close(self) -> None:
        for each in (self.kernel, self.stream, *self.memory.values()):
            each.close()


@pytest.fixture
def sums(device: Device, fake: FakeCuda) -> Iterator[Sums]:
    sums = Sums(device, fake)
    yield sums
    sums.close()


def test_recording_runs_nothing_and_replaying_runs_all(
    fake: FakeCuda, device: Device, stream: Stream, sums: Sums
) -> None:
    with Graph(stream, sums.record("abd", "dcd")) as graph:
        assert not fake.launches and not fake.graphs
        with device:
            graph.launch(sums.stream)
            assert sums.value("d") == 111
            graph.launch(sums.stream)
        assert len(fake.launches) == 4
        assert {record.stream for record in fake.launches} == {stream.handle}
    assert not fake.executables


def test_a_graph_is_updated_in_place_for_the_same_kernels(
    fake: FakeCuda, device: Device, stream: Stream, sums: Sums
) -> None:
    with Graph(stream, sums.record("abd")) as graph, device:
        assert graph.update(sums.record("acd"))
        graph.launch(sums.stream)
        assert sums.value("d") == 101
        assert fake.calls["cuGraphInstantiateWithFlags"] == 1


def test_a_graph_is_built_anew_for_another_sequence(
    fake: FakeCuda, device: Device, stream: Stream, sums: Sums
) -> None:
    with Graph(stream, sums.record("abd")) as graph, device:
        assert not graph.update(sums.record("abd", "dbd"))
        graph.launch(sums.stream)
        assert sums.value("d") == 21
        assert fake.calls["cuGraphInstantiateWithFlags"] == 2 and len(fake.executables) == 1
    assert not fake.graphs and not fake.executables


def test_an_error_while_recording_ends_the_recording(fake: FakeCuda, stream: Stream, sums: Sums) -> None:
    def record(stream: Stream) -> None:
        sums.record("abd")(stream)
        raise KeyError("no such launch")

    with pytest.raises(KeyError, match="no such launch"):
        Graph(stream, record)
    assert not fake.recording and not fake.graphs
    with Graph(stream, sums.record("abd")):
        assert len(fake.executables) == 1


def test_errors_of_the_driver(fake: FakeCuda, device: Device, stream: Stream, sums: Sums) -> None:
    for name in ("cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
        fake.fail = {name: 901}
        with pytest.raises(InternalError, match=r"refused a call: (recording|building) a graph"):
            Graph(stream, sums.record("abd"))
        fake.recording.clear()
    fake.fail = {}
    with Graph(stream, sums.record("abd")) as graph, device:
        fake.fail = {"cuGraphExecUpdate_v2": 1}
        with pytest.raises(InternalError, match="updating a graph of kernels"):
            graph.update(sums.record("acd"))
        fake.fail = {"cuGraphLaunch": 719}
        with pytest.raises(InternalError, match="launching a graph of kernels"):
            graph.launch(sums.stream)
        fake.fail = {}
    assert not fake.graphs


def test_the_cache_records_only_what_changed(fake: FakeCuda, device: Device, sums: Sums) -> None:
    cache = GraphCache(device, capacity=2)

    def run(key: int, names: str) -> None:
        with device:
            cache.get(key, tuple(map(sums.address, names)), sums.record(names)).launch(sums.stream)

    run(1, "abd")
    run(1, "abd")
    assert (cache.captures, cache.updates, cache.builds) == (1, 0, 1)
    run(1, "acd")
    assert sums.value("d") == 101
    assert (cache.captures, cache.updates, cache.builds) == (2, 1, 1)
    run(2, "bcd")
    assert sums.value("d") == 110
    run(1, "acd")
    run(3, "abd")
    assert len(cache) == 2 and len(fake.executables) == 2
    run(1, "acd")
    assert (cache.captures, cache.updates, cache.builds) == (4, 1, 3)
    run(2, "bcd")
    assert (cache.captures, cache.updates, cache.builds) == (5, 1, 4)
    assert sums.value("d") == 110
    cache.close()
    assert len(cache) == 0 and not fake.executables and not fake.graphs


def test_a_graph_whose_update_failed_is_not_used_again(fake: FakeCuda, device: Device, sums: Sums) -> None:
    cache = GraphCache(device)
    cache.get("key", (1,), sums.record("abd"))
    fake.fail["cuGraphExecUpdate_v2"] = 1
    with pytest.raises(InternalError):
        cache.get("key", (2,), sums.record("acd"))
    fake.fail.clear()
    assert len(cache) == 0
    with device:
        cache.get("key", (1,), sums.record("abd")).launch(sums.stream)
    assert sums.value("d") == 11
    cache.close()
    with pytest.raises(ValueError, match="at least one"):
        GraphCache(device, 0)

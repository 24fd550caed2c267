"""CUDA graphs: sequences of launches that the driver takes in one call.

A graph is recorded from ordinary launches, which run nothing meanwhile. Addresses and numbers are part of it:
other addresses need another recording, which updates the graph in place if its kernels are the same ones, and
replaces it otherwise. A recording puts kernels, fills and copies within the device into the stream it gets;
it allocates and frees nothing there, and copies nothing from or to the host.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_void_p

from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.interface import CAPTURE_RELAXED, UpdateResult
from dlc.runtime.cuda.resource import Resource
from dlc.runtime.cuda.status import Status
from dlc.runtime.cuda.stream import Stream

#: Puts a sequence of launches into the stream.
Record = Callable[[Stream], None]


class Graph(Resource):
    """The launches that `record` puts into `stream`, a stream of their own, ready to be launched at once.

    What they use (kernels, memory) must live as long; `record` is kept, and with it what it refers to.
    """

    def __init__(self, stream: Stream, record: Record) -> None:
        super().__init__(stream.device)
        self._stream = stream
        self._record = record
        with _recorded(stream, record) as recording:
            self._instantiate(recording)

    def launch(self, stream: Stream) -> None:
        """Put the whole sequence into `stream`, within ``with device:``. Launches of one graph run one after
        the other, whatever their streams. Errors as from Launch."""
        driver = self.device.driver
        status = driver.launch_graph(self._executable, stream.handle)
        if status:
            driver.check(status, "launching a graph of kernels")

    def update(self, record: Record) -> bool:
        """Hold what `record` puts into the stream from now on; launches under way keep what they had. True if
        that was possible in place; False if it was built anew, as where there are more launches or fewer."""
        driver = self.device.driver
        with _recorded(self._stream, record) as recording:
            self._record = record
            status = driver.status("cuGraphExecUpdate_v2", self._executable, recording, byref(UpdateResult()))
            if status == Status.SUCCESS:
                return True
            if status != Status.GRAPH_EXEC_UPDATE_FAILURE:
                driver.check(status, "updating a graph of kernels")
            self.close()
            self._instantiate(recording)
            return False

    def _instantiate(self, recording: c_void_p) -> None:
        executable = c_void_p()
        what = "building a graph of kernels"
        self.device.driver.call("cuGraphInstantiateWithFlags", byref(executable), recording, 0, what=what)
        self._executable = executable
        self._released_by("cuGraphExecDestroy", executable.value)


@contextmanager
def _recorded(stream: Stream, record: Record) -> Iterator[c_void_p]:
    """What `record` puts into `stream`, as a CUgraph; within the device's context."""
    driver, what = stream.device.driver, "recording a graph of kernels"
    graph = c_void_p()
    with stream.device:
        driver.call("cuStreamBeginCapture_v2", stream.handle, CAPTURE_RELAXED, what=what)
        try:
            try:
                record(stream)
            finally:
                status = driver.status("cuStreamEndCapture", stream.handle, byref(graph))
            driver.check(status, what)
            yield graph
        finally:
            if graph:
                driver.status("cuGraphDestroy", graph)


class GraphCache:
    """Graphs by key, most recently used ones kept: at most `capacity`. For one thread at a time.

    `captures`, `updates`, `builds` count recordings, those that an existing graph took over, and graphs that
    were instantiated.
    """

    def __init__(self, device: Device, capacity: int = 16) -> None:
        if capacity < 1:
            raise ValueError("a cache holds at least one graph")
        self.capacity = capacity
        self.captures = self.updates = self.builds = 0
        self._stream = Stream(device)
        self._graphs: OrderedDict[Hashable, tuple[tuple[int, ...], Graph]] = OrderedDict()

    def get(self, key: Hashable, addresses: tuple[int, ...], record: Record) -> Graph:
        """The graph for `key`, which decides kernels, grids and numbers (the values of the symbols), and for
        `addresses`, all those that may change between calls with the same key (inputs, outputs).

        Where it is missing, or was recorded with other addresses, `record` is called to launch everything
        once, as it is now.
        """
        found = self._graphs.get(key)
        if found is None:
            graph = Graph(self._stream, record)
            self.captures += 1
            self.builds += 1
        else:
            known, graph = found
            if known != addresses:
                self._graphs.pop(key)  # not kept half-way if updating fails
                was_updated = graph.update(record)
                self.captures += 1
                self.updates += was_updated
                self.builds += not was_updated
        self._graphs[key] = (addresses, graph)
        self._graphs.move_to_end(key)
        if len(self._graphs) > self.capacity:
            _, (_, oldest) = self._graphs.popitem(last=False)
            oldest.close()
        return graph

    def __len__(self) -> int:
        return len(self._graphs)

    def close(self) -> None:
        """Drop all graphs. Their launches have been waited for."""
        for _, graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._stream.close()

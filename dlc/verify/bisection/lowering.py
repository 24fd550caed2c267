"""Each step of the program under the kernel evaluator against the graph, at every value in memory.

The program runs on memory laid out as planned. A value that is complete is compared with the graph
evaluator's and then replaced by it, so that differences do not add up; before a step reads a value, it must
still be there: what overwrote it is a fault of the memory plan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlc.errors import InputError
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.program import Branch, Buffer, Host, Launch, Repeat, Step, StorageKind, walk
from dlc.verify.bisection.allowance import EXACT, different
from dlc.verify.bisection.image import Image, Span, filled, overlap, with_halo
from dlc.verify.bisection.report import Culprit, Level
from dlc.verify.bisection.steps import Following, in_place, numbered, place, reads, writes
from dlc.verify.bisection.subject import Counted, Prepared, run_graph
from dlc.verify.compare import Array, Difference


def check_lowering(prepared: Prepared, counted: Counted) -> Culprit | None:
    """Run the program step by step under the kernel evaluator."""
    return _Lowered(prepared, counted).run()


class _Lowered:
    """The walk over the steps."""

    def __init__(self, prepared: Prepared, counted: Counted) -> None:
        self.prepared = prepared
        self.program = prepared.program
        self.counted = counted
        self.image = Image(prepared)
        self.following: Following[Culprit] = Following(self.image, self._visit)
        program = self.program
        names = {
            b.name for step in numbered(program) for b in (*reads(program, step), *writes(program, step))
        }
        self.values = run_graph(prepared.model.graph, prepared.feeds, names)
        #: The last step of the top level that writes each value, by number.
        self.last = {b.name: self.following.numbers[id(s)] for s in program.steps for b in writes(program, s)}
        #: The step that changed elements of a value last, and the value's elements after the last step.
        self.author: dict[str, int] = {}
        self.known: dict[str, Array] = {}
        #: Who wrote which bytes last: (storage, first, behind the last) by value.
        self.spans: dict[str, Span] = {}

    def run(self) -> Culprit | None:
        """Take the steps of the top level; a branch or loop counts as one."""
        for step in self.program.steps:
            index = self.following.numbers[id(step)]
            culprit = self._overwritten(index, step) or self._aliased(index, step) or self._step(index, step)
            if culprit is not None:
                return culprit
        return None

    def _overwritten(self, index: int, step: Step) -> Culprit | None:
        """The fault of the memory plan that takes away what `step` is about to read."""
        for buffer in reads(self.program, step):
            expected = self._expected(buffer)
            if buffer.storage.kind in (StorageKind.CONSTANT, StorageKind.INPUT) or expected is None:
                continue
            self.counted.count += 1
            memory = self.image.memory(buffer)
            found = different(buffer.name, with_halo(memory), filled(memory, expected), EXACT)
            if found is not None:
                thief = self._thief(buffer)
                by = "" if thief is None else f" by step {thief}"
                cause = f"the memory of {buffer.name} is overwritten{by} before step {index} reads it"
                return self._culprit(index if thief is None else thief, cause, buffer.name, found)
        return None

    def _expected(self, buffer: Buffer) -> Array | None:
        """What a buffer must hold: as it was written, or as in the graph for another name of the memory."""
        if buffer.name in self.known:
            return self.known[buffer.name]
        followed = self.image.span(buffer) in self.spans.values()
        return self.values.get(buffer.name) if followed else None

    def _aliased(self, index: int, step: Step) -> Culprit | None:
        """The fault of the memory plan that lets `step` write over what it still reads.

        The evaluator computes a whole tensor before it stores it, and so would not see that.
        """
        allowed = in_place(self.program, step)
        for target in writes(self.program, step):
            for source in reads(self.program, step):
                if source.name == target.name or source.storage.kind is StorageKind.CONSTANT:
                    continue
                one, other = self.image.span(source), self.image.span(target)
                if overlap(one, other) and not (one[2] == other[2] and source in allowed):
                    cause = f"step {index} writes {target.name} over {source.name} while it reads that"
                    return self._culprit(index, cause, source.name)
        return None

    def _thief(self, buffer: Buffer) -> int | None:
        """The last step that wrote bytes of `buffer` for another value."""
        span = self.image.span(buffer)
        owner = self.author.get(buffer.name, -1)
        thieves = [
            self.author[name]
            for name, other in self.spans.items()
            if overlap(other, span) and self.author[name] > owner
        ]
        return max(thieves, default=None)

    def _step(self, index: int, step: Step) -> Culprit | None:
        written = writes(self.program, step)
        before = {b.name: np.array(self.image.memory(b).whole()) for b in written}
        try:
            self.following.step(step)
        except Exception as error:  # whatever a wrong kernel leads to
            return self._culprit(index, f"the step cannot be evaluated: {type(error).__name__}: {error}")
        if isinstance(step, Branch | Repeat):
            return self._inner_results(index, step)
        for buffer in written:
            memory = self.image.memory(buffer)
            now = np.array(memory.whole())
            if not same_bits(before[buffer.name], now):
                self.author[buffer.name] = index
            self.author.setdefault(buffer.name, index)
            self.spans[buffer.name] = self.image.span(buffer)
            expected = self.values.get(buffer.name)
            if expected is None or self.last[buffer.name] != index:
                self.known[buffer.name] = now
                continue
            found = self._difference(buffer, now, expected)
            if found is not None:
                cause = "a kernel's stages do not compute what the graph says"
                return self._culprit(self.author[buffer.name], cause, buffer.name, found)
            memory.assign(expected)
            self.known[buffer.name] = expected
        return None

    def _inner_results(self, index: int, step: Branch | Repeat) -> Culprit | None:
        """Compare what a branch or loop leaves behind.

        Values inside may bear the names of those outside; of the buffers of one name and of the right shape,
        one must hold the value.
        """
        candidates: dict[str, list[Buffer]] = {}
        for inner in walk((step,)):
            for buffer in writes(self.program, inner):
                if buffer.name in self.values and self._has_shape(buffer, self.values[buffer.name].shape):
                    candidates.setdefault(buffer.name, []).append(buffer)
        for name, buffers in candidates.items():
            found = [self._difference(b, self.image.memory(b).whole(), self.values[name]) for b in buffers]
            if all(difference is not None for difference in found):
                cause = "a branch or loop does not compute what the graph says"
                return self._culprit(index, cause, name, found[-1])
            right = buffers[found.index(None)]
            self.author[name], self.spans[name] = index, self.image.span(right)
            self.known[name] = np.array(self.image.memory(right).whole())
        return None

    def _has_shape(self, buffer: Buffer, shape: tuple[int, ...]) -> bool:
        """Whether a buffer's extents are known after its step, and these."""
        try:
            return self.image.shape(buffer) == shape and self.image.content(buffer).size > 0
        except InputError:  # a symbol that ended with the branch or the iteration
            return False

    def _difference(self, buffer: Buffer, now: Array, expected: Array) -> Difference | None:
        self.counted.count += 1
        return self.prepared.allowance.difference(buffer.name, now, expected, self.counted.notes)

    def _visit(self, _: int, step: Launch | Host) -> None:
        if isinstance(step, Host):
            self.image.run_host(step)
            return
        kernel = self.program.kernels[step.kernel]
        arrays = {p.name: self.image.memory(b) for p, b in zip(kernel.params, step.buffers, strict=True)}
        evaluate_kernel(kernel, arrays, self.image.numbers)

    def _culprit(
        self, index: int, cause: str, value: str | None = None, found: Difference | None = None
    ) -> Culprit:
        culprit = place(Culprit(Level.LOWERING, cause, value=value, difference=found), self.program, index)
        if culprit.nodes or value is None:
            return culprit
        producers = (
            node for node in self.prepared.model.graph.nodes for v in node.outputs if v.name == value
        )
        return replace(culprit, nodes=next((node.origin for node in producers), ()))


def same_bits(left: Array, right: Array) -> bool:
    """Whether two arrays of one type hold the same bytes, NaNs included."""
    return left.tobytes() == right.tobytes()

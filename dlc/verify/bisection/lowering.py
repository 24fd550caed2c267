"""Each step of the program under the kernel evaluator against the graph, at every value in memory.

The program runs on memory laid out as planned. A value that is complete is compared with the graph
evaluator's and then replaced by it, so that differences do not add up; before a step reads a value, it must
still be there: what overwrote it is a fault of the memory plan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlc.lowering.draft import LoweredKernel
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.inplace import overwritable
from dlc.lowering.kernel import Access
from dlc.lowering.program import Buffer, Host, Launch, Program, Step, StorageKind
from dlc.verify.bisection.allowance import EXACT, different
from dlc.verify.bisection.image import Image, Span, filled, overlap, with_halo
from dlc.verify.bisection.report import Culprit, Level
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
        program = self.program
        names = {b.name for step in program.steps for b in (*reads(program, step), *writes(program, step))}
        self.values = run_graph(prepared.model.graph, prepared.feeds, names)
        #: The last step that writes each value.
        self.last = last_writers(program)
        #: The step that changed elements of a value last, and the value's elements after the last step.
        self.author: dict[str, int] = {}
        self.known: dict[str, Array] = {}
        #: Who wrote which bytes last: (storage, first, behind the last) by value.
        self.spans: dict[str, Span] = {}

    def run(self) -> Culprit | None:
        for index, step in enumerate(self.program.steps):
            culprit = self._overwritten(index, step) or self._aliased(index, step) or self._step(index, step)
            if culprit is not None:
                return culprit
        return None

    def _overwritten(self, index: int, step: Step) -> Culprit | None:
        """The fault of the memory plan that takes away what `step` is about to read."""
        for buffer in reads(self.program, step):
            expected = self.known.get(buffer.name, self.values.get(buffer.name))
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
            self._run(step)
        except Exception as error:  # whatever a wrong kernel leads to
            return self._culprit(index, f"the step cannot be evaluated: {type(error).__name__}: {error}")
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
            self.counted.count += 1
            found = self.prepared.allowance.difference(buffer.name, now, expected, self.counted.notes)
            author = self.author[buffer.name]
            if found is not None:
                cause = "a kernel's stages do not compute what the graph says"
                return self._culprit(author, cause, buffer.name, found)
            memory.assign(expected)
            self.known[buffer.name] = expected
        return None

    def _run(self, step: Step) -> None:
        if not isinstance(step, Launch):
            self.image.run_simple(step)
            return
        kernel = self.program.kernels[step.kernel]
        arrays = {p.name: self.image.memory(b) for p, b in zip(kernel.params, step.buffers, strict=True)}
        evaluate_kernel(kernel, arrays, self.image.numbers)

    def _culprit(
        self, index: int, cause: str, value: str | None = None, found: Difference | None = None
    ) -> Culprit:
        return place(Culprit(Level.LOWERING, cause, value=value, difference=found), self.program, index)


def place(culprit: Culprit, program: Program, index: int) -> Culprit:
    """The culprit at step `index`."""
    match program.steps[index]:
        case Launch(kernel, _, _, origins):
            name = f"k{kernel}_{program.kernels[kernel].name}"
            return replace(culprit, step=index, kernel=name, nodes=origins)
        case Host(_, node):
            return replace(culprit, step=index, nodes=node.origin)
    return replace(culprit, step=index)


def reads(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step reads, those that it updates included."""
    match step:
        case Launch(kernel, buffers):
            params = program.kernels[kernel].params
            return tuple(b for p, b in zip(params, buffers, strict=True) if p.access is not Access.WRITE)
        case Host(_, _, inputs):
            return tuple(buffer for buffer in inputs if buffer is not None)
    return ()


def writes(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step writes, those that it updates included."""
    match step:
        case Launch(kernel, buffers):
            params = program.kernels[kernel].params
            return tuple(b for p, b in zip(params, buffers, strict=True) if p.access is not Access.READ)
        case Host(_, _, _, outputs):
            return outputs
    return ()


def in_place(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step may overwrite with its result as it reads them."""
    if not isinstance(step, Launch):
        return ()
    kernel = program.kernels[step.kernel]
    allowed = overwritable(LoweredKernel(kernel, {}))
    pairs = zip(kernel.params, step.buffers, strict=True)
    return tuple(buffer for param, buffer in pairs if param.name in allowed)


def last_writers(program: Program) -> dict[str, int]:
    """The last step that writes each value, by name."""
    return {b.name: index for index, step in enumerate(program.steps) for b in writes(program, step)}


def same_bits(left: Array, right: Array) -> bool:
    """Whether two arrays of one type hold the same bytes, NaNs included."""
    return left.tobytes() == right.tobytes()

"""Does a result depend on which thread runs what, and when?

Each launch runs with its chunks in other orders, with scratch memory spoiled before each, and must leave the
same bytes; no two of its chunks may write one element; and the whole model must give the same bits on any
number of threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dlc.lowering.kernel import Access
from dlc.lowering.program import Buffer, Host, Launch, buffers
from dlc.verify.bisection.allowance import EXACT, different
from dlc.verify.bisection.code import CHECKED, locate
from dlc.verify.bisection.image import Image, overlap
from dlc.verify.bisection.native import NativeCode
from dlc.verify.bisection.report import Culprit, Level
from dlc.verify.bisection.steps import Following, writes
from dlc.verify.bisection.subject import Counted, Prepared, Subject
from dlc.verify.compare import Array, Difference

#: Team sizes of whole runs, and how often each is tried: 1 first, whose result the others must give.
TEAMS = (1, 2, 3, 7)
RUNS = 3


def check_threads(
    subject: Subject, prepared: Prepared, native: NativeCode, counted: Counted
) -> Culprit | None:
    """Run each launch in several orders, then the model on several threads."""
    image = Image(prepared)
    times: Counter[int] = Counter()

    def visit(number: int, step: Launch | Host) -> Culprit | None:
        if isinstance(step, Host):
            image.run_host(step)
            return None
        times[number] += 1
        if times[number] > CHECKED:
            native.launch(image, number)
            return None
        culprit = _Reordered(image, native, number, step, counted).check()
        return None if culprit is None else locate(culprit, prepared, native, number)

    culprit = Following(image, visit).all()
    return culprit or _check_teams(subject, prepared, native, image, counted)


class _Reordered:
    """One launch in several orders of its chunks."""

    def __init__(self, image: Image, native: NativeCode, index: int, step: Launch, counted: Counted) -> None:
        self.image, self.native, self.index, self.step, self.counted = image, native, index, step, counted
        self.written = [buffer for buffer in writes(image.program, step) if image.content(buffer).size]
        self.chunks = native.chunks(image, index)

    def check(self) -> Culprit | None:
        """What depends on the order; the launch is done afterwards."""
        before = [np.array(self.image.content(buffer)) for buffer in self.written]
        culprit = None
        if self.chunks > 1:
            culprit = self.overlap()
            self.restore(before)
        self.native.launch(self.image, self.index)
        if self.chunks < 2 or culprit is not None:
            return culprit
        result = [np.array(self.image.content(buffer)) for buffer in self.written]
        for name, order in orders(self.chunks):
            self.restore(before)
            self.native.launch(self.image, self.index, order, spoil=True)
            self.counted.count += 1
            for buffer, content in zip(self.written, result, strict=True):
                if not np.array_equal(self.image.content(buffer), content):
                    cause = f"the result depends on the order of the chunks: {name} gives another one"
                    found = self.difference(buffer, content)
                    return Culprit(Level.THREADS, cause, value=buffer.name, difference=found)
        return None

    def restore(self, contents: Sequence[Array]) -> None:
        """Let the written buffers hold `contents`."""
        for buffer, content in zip(self.written, contents, strict=True):
            self.image.content(buffer)[:] = content

    def difference(self, buffer: Buffer, content: Array) -> Difference | None:
        """What of the elements of `buffer` is not as in `content`."""
        expected = np.array(self.image.memory(buffer, content).whole())
        return different(buffer.name, np.array(self.image.memory(buffer).whole()), expected, EXACT)

    # --- who writes what

    def overlap(self) -> Culprit | None:
        """Two chunks that write the same element, even if the same number.

        Any two chunks differ in some bit of their numbers: for each bit, the chunks that have it and those
        that have it not must write disjoint bytes.
        """
        plain = self.plain()
        if not plain:
            return None
        for bit in range((self.chunks - 1).bit_length()):
            halves = [[c for c in range(self.chunks) if c >> bit & 1 == side] for side in (0, 1)]
            first, second = (self.touched(plain, half) for half in halves)
            self.counted.count += 1
            for buffer, a, b in zip(plain, first, second, strict=True):
                if (a & b).any():
                    return self.named(buffer, plain, int(np.argmax(a & b)))
        return None

    def plain(self) -> list[Buffer]:
        """The written buffers that the launch does not read, under any name."""
        kernel = self.image.program.kernels[self.step.kernel]
        pairs = list(zip(kernel.params, self.step.buffers, strict=True))
        read = [self.image.span(b) for p, b in pairs if p.access is not Access.WRITE and not p.constant]
        return [
            b
            for p, b in pairs
            if p.access is Access.WRITE
            and b in self.written
            and not any(overlap(self.image.span(b), other) for other in read)
        ]

    def touched(self, buffers: Sequence[Buffer], chunks: Sequence[int]) -> list[Array]:
        """For each buffer, which bytes the `chunks` write: those that no longer hold a random pattern."""
        generator = np.random.default_rng(0)
        patterns = []
        for buffer in buffers:
            pattern = generator.integers(0, 256, self.image.content(buffer).size).astype(np.uint8)
            self.image.content(buffer)[:] = pattern
            patterns.append(pattern)
        self.native.launch(self.image, self.index, chunks)
        return [self.image.content(b) != pattern for b, pattern in zip(buffers, patterns, strict=True)]

    def named(self, buffer: Buffer, plain: Sequence[Buffer], byte: int) -> Culprit:
        """The culprit for a byte of `buffer` that several chunks write."""
        which = plain.index(buffer)
        chunks = [c for c in range(self.chunks) if self.touched(plain, [c])[which][byte]]
        element = byte // buffer.type.dtype.numpy.itemsize
        at = np.unravel_index(element, self.image.physical(buffer).shape)
        place = [int(entry) for entry in at]
        cause = f"chunks {', '.join(map(str, chunks[:4]))} write one element, at {place} of memory"
        return Culprit(Level.THREADS, cause, value=buffer.name)


def orders(chunks: int) -> Iterator[tuple[str, list[int]]]:
    """Orders of chunks that a team could run them in, with names."""
    numbers = list(range(chunks))
    yield "last to first", numbers[::-1]
    if chunks > 2:
        yield "odd ones first", numbers[1::2] + numbers[::2]
        yield "a random order", [int(c) for c in np.random.default_rng(0).permutation(chunks)]


def _check_teams(
    subject: Subject, prepared: Prepared, native: NativeCode, image: Image, counted: Counted
) -> Culprit | None:
    """Run the whole model on teams of several sizes, and compare it with the launches made one by one."""
    from dlc.api.assemble import assemble
    from dlc.api.model import CompiledModel

    expected = [np.array(image.memory(buffer).whole()) for buffer in buffers(prepared.program.outputs)]
    artifact = assemble(prepared.model, subject.options, native.target, native.code, (), 0, ())
    for team in TEAMS:
        with CompiledModel(artifact, threads=team, poison=True) as compiled:
            for _ in range(RUNS):
                outputs = compiled({spec.name: subject.inputs[spec.name] for spec in compiled.inputs})
                for (name, actual), wanted in zip(outputs.items(), expected, strict=True):
                    counted.count += 1
                    found = different(name, actual, wanted, EXACT)
                    if found is None:
                        continue
                    if team == 1:
                        cause = "the driver's run differs from the same launches made one by one"
                        return Culprit(Level.CODE, cause, value=name, difference=found)
                    cause = f"the result differs on {team} threads, though no single launch depends on order"
                    return Culprit(Level.THREADS, cause, value=name, difference=found)
    return None

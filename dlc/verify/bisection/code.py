"""Each launch of native code against the kernel evaluator, on the same memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np

from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Kernel
from dlc.lowering.program import Host, Launch
from dlc.lowering.tensors import Memory
from dlc.verify.bisection.allowance import is_rounding, rounding_note, work_of_kernel
from dlc.verify.bisection.image import Image, with_halo, wrong_pad
from dlc.verify.bisection.native import NativeCode
from dlc.verify.bisection.report import Culprit, Level
from dlc.verify.bisection.steps import Following, last_writers, place, writes
from dlc.verify.bisection.subject import Counted, Prepared
from dlc.verify.compare import Array, Difference
from dlc.verify.result import Verdict
from dlc.verify.verification import judge

#: How often a launch inside a loop is checked.
CHECKED = 2


def check_code(prepared: Prepared, native: NativeCode, counted: Counted) -> Culprit | None:
    """Run the program natively, one launch at a time, next to the kernel evaluator."""
    image = Image(prepared)
    last = last_writers(prepared.program)
    times: Counter[int] = Counter()

    def visit(number: int, step: Launch | Host) -> Culprit | None:
        if isinstance(step, Host):
            image.run_host(step)
            return None
        times[number] += 1
        if times[number] > CHECKED:
            native.launch(image, number)
            return None
        launched = _Launched(image, native, number, step, counted)
        culprit = launched.check() or launched.check_pads(last)
        return None if culprit is None else locate(culprit, prepared, native, number)

    return Following(image, visit).all()


def locate(culprit: Culprit, prepared: Prepared, native: NativeCode, index: int) -> Culprit:
    """The culprit at step `index`, with the function and the template of its kernel."""
    found = place(culprit, prepared.program, index)
    known = native.function(index)
    return found if known is None else dataclasses.replace(found, kernel=known[0], template=known[1])


class _Launched:
    """One launch, run natively and evaluated."""

    def __init__(self, image: Image, native: NativeCode, index: int, step: Launch, counted: Counted) -> None:
        self.image, self.native, self.index, self.step, self.counted = image, native, index, step, counted
        self.kernel: Kernel = image.program.kernels[step.kernel]
        self.buffers = dict(zip((param.name for param in self.kernel.params), step.buffers, strict=True))
        #: What the parameters hold before the launch.
        self.operands = {name: np.array(image.content(b)) for name, b in self.buffers.items()}

    def check(self) -> Culprit | None:
        """Run the launch; what it does wrong."""
        image = self.image
        before = image.snapshot()
        try:
            self.native.launch(image, self.index)
        except Exception as error:  # a fault in the data, or whatever wrong code leads to
            return Culprit(Level.CODE, f"the launch fails: {type(error).__name__}: {error}")
        stray = image.stray_write(before, writes(image.program, self.step))
        if stray is not None:
            cause = f"the kernel writes outside its buffers, at byte {stray[1]} of the {stray[0].value}"
            return Culprit(Level.CODE, cause)
        expected = self.evaluated()
        for param in self.kernel.writes:
            culprit = self.compared(param.name, expected[param.name])
            if culprit is not None:
                return culprit
        return None

    def evaluated(self, *, wide: bool = False) -> dict[str, Memory]:
        """The parameters after the launch as the evaluator has them, on copies."""
        memories = {
            name: self.image.memory(buffer, np.array(self.operands[name]))
            for name, buffer in self.buffers.items()
        }
        evaluate_kernel(self.kernel, memories, self.image.numbers, wide=wide)
        return memories

    def compared(self, name: str, expected: Memory) -> Culprit | None:
        """What is wrong with the parameter `name`."""
        buffer = self.buffers[name]
        memory = self.image.memory(buffer)
        self.counted.count += 1
        found = self.difference(buffer.name, with_halo(memory), with_halo(expected), None)
        if found is not None and buffer.type.dtype.is_float:
            exact = with_halo(self.evaluated(wide=True)[name])
            found = self.difference(buffer.name, with_halo(memory), with_halo(expected), exact)
        if found is not None and is_rounding(self.kernel, found, with_halo(memory), with_halo(expected)):
            self.counted.notes.append(rounding_note(found))
            found = None
        if found is not None:
            cause = "the native kernel does not compute what its stages say"
            return Culprit(Level.CODE, cause, value=buffer.name, difference=found)
        return None

    def check_pads(self, last: Mapping[str, int]) -> Culprit | None:
        """Wrong lanes in a value that is complete with this launch."""
        for buffer in writes(self.image.program, self.step):
            complete = last[buffer.name] == self.index
            if complete and wrong_pad(self.image.memory(buffer), self.image.physical(buffer)):
                cause = "lanes that fill up the last block of an axis do not hold what the layout says"
                return Culprit(Level.CODE, cause, value=buffer.name)
        return None

    def difference(self, name: str, actual: Array, expected: Array, exact: Array | None) -> Difference | None:
        """The difference, unless it is within the tolerance for the kernel's work, or float64 excuses it."""
        results = judge(name, actual, expected, exact, work_of_kernel(self.kernel))
        wrong = [result for result in results if result.verdict is Verdict.DIFFERS]
        return wrong[0].difference if wrong else None

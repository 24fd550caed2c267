"""A program's kernels as native functions, called one launch at a time with chunks in any order."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import CFUNCTYPE, addressof, c_int64, c_void_p
from dataclasses import dataclass

from dlc.backends.cpu.backend import GeneratedCode, generate
from dlc.errors import IndexFault, UnsupportedError, printable
from dlc.lowering.program import Buffer, Launch, Step, StorageKind
from dlc.options import Options
from dlc.runtime.abi import NO_FAULT
from dlc.runtime.arena import Block
from dlc.runtime.library import runtime
from dlc.runtime.loader import JitLibrary
from dlc.target import CpuTarget, resolve
from dlc.verify.bisection.image import Image, as_bytes
from dlc.verify.bisection.steps import numbered
from dlc.verify.bisection.subject import Prepared

_KERNEL = CFUNCTYPE(None, c_void_p, c_int64, c_void_p)


@dataclass(frozen=True)
class NativeCode:
    """The generated code of a prepared model, mapped, with its packed constants.

    `steps` are all steps of the program that reads those, in the order of their numbers.
    """

    code: GeneratedCode
    target: CpuTarget
    library: JitLibrary
    constants: tuple[Block, ...]
    steps: tuple[Step, ...]

    def launch(
        self, image: Image, index: int, order: Iterable[int] | None = None, *, spoil: bool = False
    ) -> None:
        """Run launch `index` of the program on the memory of `image`, its chunks one after the other.

        `order` names the chunks to run; all of them, first to last, by default. With `spoil`, scratch memory
        holds NaNs before each chunk. IndexFault for a bad index in the data.
        """
        step = self.steps[index]
        assert isinstance(step, Launch)
        kernel = self.code.kernels[step.kernel]
        fault = c_int64(NO_FAULT)
        slots = [self._address(image, buffer) for buffer in step.buffers]
        slots += [image.numbers[symbol.name] for symbol in kernel.symbols]
        workspace = Block(image.number(kernel.workspace), poison=True)
        slots += [addressof(fault), index, workspace.address]
        arguments = (c_int64 * len(slots))(*slots)
        scratch = Block(image.number(kernel.scratch), poison=True)
        if kernel.before is not None:
            first = _KERNEL(self.library.address(kernel.before.function))
            for chunk in range(image.number(kernel.before.chunks)):
                first(addressof(arguments), chunk, scratch.address)
        function = _KERNEL(self.library.address(kernel.function))
        for chunk in range(self.chunks(image, index)) if order is None else order:
            if spoil:
                scratch.poison()
            function(addressof(arguments), chunk, scratch.address)
        if fault.value != NO_FAULT:
            where = printable(", ".join(step.origins))
            raise IndexFault(f"an index in the data is out of range in {where}")

    def chunks(self, image: Image, index: int) -> int:
        """How many chunks launch `index` has."""
        step = self.steps[index]
        assert isinstance(step, Launch)
        return image.number(self.code.kernels[step.kernel].chunks)

    def function(self, index: int) -> tuple[str, str] | None:
        """Name and template of the kernel of step `index`, if it is a launch."""
        step = self.steps[index]
        if not isinstance(step, Launch):
            return None
        kernel = self.code.kernels[step.kernel]
        return kernel.function, kernel.template

    def _address(self, image: Image, buffer: Buffer) -> int:
        if buffer.storage.kind is StorageKind.CONSTANT:
            return self.constants[buffer.storage.index].address
        start = image.span(buffer)[2]
        return int(image.storage(buffer.storage).ctypes.data) + start


def cpu_target(options: Options) -> CpuTarget:
    """The CPU that `options` name; UnsupportedError for a GPU, whose launches are not followed."""
    name = options.targets[0]
    if name.startswith("cuda"):
        raise UnsupportedError(
            f"steps are followed in code for CPUs, and the target is {name}",
            hint="leave the target away: passes and lowering are nearly the same for both",
            code="unsupported/target",
        )
    return resolve(name)


def compile_native(prepared: Prepared, target: CpuTarget) -> NativeCode:
    """Generate the code of a prepared model and map it."""
    code = generate(prepared.program, target)
    library = JitLibrary([code.object], runtime().symbols)
    constants = []
    for constant in code.program.constants:
        data = as_bytes(constant.data)
        block = Block(data.size, what="a constant")
        block.array()[:] = data
        constants.append(block)
    return NativeCode(code, target, library, tuple(constants), tuple(numbered(code.program)))

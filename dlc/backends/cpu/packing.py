"""Rearranging constants at compile time into the order in which kernels read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.backends.cpu.compiled import CompiledKernel, Packing
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Constant,
    Copy,
    Host,
    Launch,
    Program,
    Repeat,
    Step,
    Steps,
    Storage,
    StorageKind,
)


def pack_constants(program: Program, kernels: Sequence[CompiledKernel]) -> Program:
    """The program with each constant that a kernel wants packed replaced; constants nobody reads are dropped.

    A constant that several kernels pack in the same way is packed once.
    """
    return _Packer(program, kernels).run()


class _Packer:
    def __init__(self, program: Program, kernels: Sequence[CompiledKernel]) -> None:
        self.program = program
        self.kernels = kernels
        self.constants: list[Constant] = []
        self.known: dict[tuple[int, str], int] = {}

    def run(self) -> Program:
        steps = self._steps(self.program.steps)
        return dataclasses.replace(self.program, steps=steps, constants=tuple(self.constants))

    def _steps(self, steps: Steps) -> Steps:
        return tuple(map(self._step, steps))

    def _step(self, step: Step) -> Step:
        match step:
            case Launch():
                kernel = self.kernels[step.kernel]
                buffers = [
                    self._buffer(buffer, kernel.function + param.name, kernel.packing.get(param.name))
                    for param, buffer in zip(kernel.kernel.params, step.buffers, strict=True)
                ]
                return dataclasses.replace(step, buffers=tuple(buffers))
            case Bind():
                return dataclasses.replace(step, buffer=self._buffer(step.buffer))
            case Host():
                inputs = tuple(self._buffer(i) if isinstance(i, Buffer) else i for i in step.inputs)
                return dataclasses.replace(step, inputs=inputs)
            case Copy():
                return dataclasses.replace(step, source=self._buffer(step.source))
            case Branch():
                return dataclasses.replace(
                    step,
                    condition=self._buffer(step.condition),
                    then=self._steps(step.then),
                    otherwise=self._steps(step.otherwise),
                )
            case Repeat():
                return dataclasses.replace(
                    step,
                    condition=None if step.condition is None else self._buffer(step.condition),
                    body=self._steps(step.body),
                    again=None if step.again is None else self._buffer(step.again),
                )
        return step

    def _buffer(self, buffer: Buffer, key: str = "", packing: Packing | None = None) -> Buffer:
        """The buffer over the constant as it is read: packed, or as it was."""
        if packing is None:
            key = ""
        if buffer.storage.kind is not StorageKind.CONSTANT:
            return buffer
        old = buffer.storage.index
        index = self.known.get((old, key))
        if index is None:
            constant = self.program.constants[old]
            data = constant.data
            if packing is not None:
                shape = tuple(int(extent) for extent in buffer.type.shape if isinstance(extent, int))
                data = np.ascontiguousarray(packing(data.reshape(shape)))
            index = self.known[(old, key)] = len(self.constants)
            self.constants.append(Constant(constant.name, data))
        storage = Storage(StorageKind.CONSTANT, index, self.constants[index].data.nbytes)
        return dataclasses.replace(buffer, storage=storage)

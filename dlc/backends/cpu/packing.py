"""Rearranging constants at compile time into the order in which kernels read them."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.lowering.program import Buffer, Constant, Launch, Program, Step, Storage, StorageKind


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
        steps = tuple(self._step(step) for step in self.program.steps)
        return dataclasses.replace(self.program, steps=steps, constants=tuple(self.constants))

    def _step(self, step: Step) -> Step:
        if not isinstance(step, Launch):
            plain = {f.name: self._plain(getattr(step, f.name)) for f in dataclasses.fields(step)}
            return dataclasses.replace(step, **plain)
        kernel = self.kernels[step.kernel]
        buffers = []
        for param, buffer in zip(kernel.kernel.params, step.buffers, strict=True):
            packing = kernel.packing.get(param.name)
            buffers.append(self._buffer(buffer, kernel.function + param.name if packing else "", packing))
        return dataclasses.replace(step, buffers=tuple(buffers))

    def _plain(self, field: object) -> object:
        match field:
            case Buffer():
                return self._buffer(field, "", None)
            case tuple():
                return tuple(self._plain(part) for part in field)
        return field

    def _buffer(self, buffer: Buffer, key: str, packing: object) -> Buffer:
        if buffer.storage.kind is not StorageKind.CONSTANT:
            return buffer
        old = buffer.storage.index
        index = self.known.get((old, key))
        if index is None:
            constant = self.program.constants[old]
            data = constant.data
            if callable(packing):
                shape = tuple(int(extent) for extent in buffer.type.shape if isinstance(extent, int))
                data = np.ascontiguousarray(packing(data.reshape(shape)))
            index = self.known[(old, key)] = len(self.constants)
            self.constants.append(Constant(constant.name, data))
        storage = Storage(StorageKind.CONSTANT, index, self.constants[index].data.nbytes)
        return dataclasses.replace(buffer, storage=storage)

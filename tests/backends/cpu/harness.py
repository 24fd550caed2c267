"""Compile a module, link it into this process and call its functions; independent of dlc.runtime."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import compile_module
from dlc.target import CpuTarget, native, resolve

_names = (f"test{n}" for n in itertools.count())

#: Every target that can run here: tests of generated code are parametrised over them.
TARGETS = [name for name in ("native", "x86-64-v3", "x86-64-v4") if resolve(name).runs_on(native())]

each_target = pytest.mark.parametrize("target", [resolve(n) for n in TARGETS], ids=TARGETS)


@functools.cache
def _jit() -> llvm.LLJIT:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.create_lljit_compiler(use_jit_link=True)


class Library:
    """The functions of a linked module; call them by attribute with arrays, integers and floats."""

    def __init__(self, module: Module) -> None:
        names = [name for name, built in module._functions.items() if not built._internal]
        builder = llvm.JITLibraryBuilder().add_object_img(compile_module(module)).add_current_process()
        for name in names:
            builder.export_symbol(name)
        self.tracker = builder.link(_jit(), next(_names))
        self.functions = {name: self._bind(name, module._functions[name]) for name in names}

    def _bind(self, name: str, built: FunctionBuilder) -> Callable[..., Any]:
        result = _C.get(built.returns)
        function = ctypes.CFUNCTYPE(result, *[_C[p.type] for p in built.params])(self.tracker[name])
        tracker = self.tracker  # unloads the code when it is collected

        def call(*args: Any) -> Any:
            assert tracker is not None
            return function(*[a.ctypes.data if isinstance(a, np.ndarray) else a for a in args])

        return call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self.functions[name]


_C = {
    t.ptr: ctypes.c_void_p,
    t.i64: ctypes.c_int64,
    t.i32: ctypes.c_int32,
    t.i16: ctypes.c_int16,
    t.i8: ctypes.c_int8,
    t.i1: ctypes.c_bool,
    t.f32: ctypes.c_float,
    t.f64: ctypes.c_double,
}

IR_TYPES = {
    "float64": t.f64,
    "float32": t.f32,
    "float16": t.f16,
    "bfloat16": t.bf16,
    "int64": t.i64,
    "int32": t.i32,
    "int16": t.i16,
    "int8": t.i8,
    "uint64": t.i64,
    "uint32": t.i32,
    "uint16": t.i16,
    "uint8": t.i8,
    "bool": t.i8,
}


def apply_lanes(
    target: CpuTarget,
    emit: Callable[..., t.Value],
    *inputs: np.ndarray,
    out: Any = None,
    lanes: int = 16,
) -> np.ndarray:
    """emit(builder, *vectors) over equally long 1-d arrays, `lanes` at a time; padded internally.

    `out` is the result's NumPy dtype (default: that of the first input). i1 lanes of the result become bytes.
    """
    module = Module(target)
    b = module.function("run", [*((f"x{k}", t.ptr) for k in range(len(inputs))), ("y", t.ptr), ("n", t.i64)])
    *pointers, y, n = b.params
    dtype = np.dtype(inputs[0].dtype if out is None else out)
    with b.loop(0, n, step=lanes) as loop:
        types = [IR_TYPES[x.dtype.name] for x in inputs]
        vectors = [
            b.load(b.offset(p, loop.iv, e), e.with_lanes(lanes)) for p, e in zip(pointers, types)
        ]
        result = emit(b, *vectors)
        if result.type.element is t.i1:
            result = b.zext(result, result.type.with_element(t.i8))
        element = IR_TYPES[dtype.name]
        assert result.type.element is element, f"{result.type} is stored as {dtype}"
        b.store(result, b.offset(y, loop.iv, element))
    size = len(inputs[0])
    padded = -(-size // lanes) * lanes
    arrays = [np.concatenate([x, np.full(padded - size, x[-1], x.dtype)]) for x in inputs]
    output = np.empty(padded, dtype)
    Library(module).run(*arrays, output, padded)
    return output[:size]

"""Running generated Triton functions on the CPU, under Triton's interpreter.

The interpreter executes the Python body of a kernel with NumPy, one program at a time: it tells whether a
kernel computes the right numbers, on a machine without a GPU. It does not tell whether the kernel compiles,
which layouts, tf32 roundings or races it has. It works in a process that also compiles: what it patches
(`triton.language`, its helpers, libdevice) is patched for the length of a launch, under one lock, and then
as before.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dlc.backends.triton.elements import REGISTER_TYPES
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.source import TRITON_LOCK, load, require_triton
from dlc.errors import Error, InternalError
from dlc.ir.dtypes import DType

_ALIGNMENT = 16
_AXES = 3
_MISSING = object()

Array = np.ndarray[Any, Any]


def interpret(
    function: TritonFunction, grid: tuple[int, ...], pointers: Sequence[Array], scalars: Sequence[int] = ()
) -> None:
    """Run `function` over `grid` programs, in place on `pointers`.

    `pointers` are one-dimensional contiguous views of memory that begins at a multiple of 16 bytes, of the
    dtypes of the function's pointers (bool for bool; bfloat16 and fp8 as ml_dtypes has them); `scalars` the
    numbers in order. Raises InternalError, with the function's name, if the arguments do not fit or the
    kernel fails, which includes an access outside of the arrays given.
    """
    require_triton()
    _check_arguments(function, grid, pointers, scalars)
    if 0 in grid:
        return
    full_grid = (*grid, *(1 for _ in range(_AXES - len(grid))))
    with TRITON_LOCK:
        kernel = load(function.text, function.name).fn
        with _interpreting(kernel, pointers) as (body, builder):
            arguments = _arguments(function, pointers, scalars)
            builder.set_grid_dim(*full_grid)
            for program in itertools.product(*map(range, full_grid)):
                builder.set_grid_idx(*program)
                try:
                    body(*arguments)
                except Error:
                    raise
                except Exception as error:
                    raise InternalError(
                        f"the Triton function {function.name} fails under the interpreter in program "
                        f"{program[: len(grid)]}: {type(error).__name__}: {error}"
                    ) from error


def _check_arguments(
    function: TritonFunction, grid: tuple[int, ...], pointers: Sequence[Array], scalars: Sequence[int]
) -> None:
    def require(condition: bool, what: str) -> None:
        if not condition:
            raise InternalError(f"the Triton function {function.name} {what}")

    require(1 <= len(grid) <= _AXES and min(grid) >= 0, f"cannot run over the grid {grid}")
    require(len(pointers) == len(function.pointers), f"takes {len(function.pointers)} pointers")
    require(len(scalars) == len(function.scalars), f"takes {len(function.scalars)} scalars")
    for (name, dtype), array in zip(function.pointers, pointers):
        require(array.dtype == dtype.numpy, f"takes {name} as {dtype.text}, not {array.dtype}")
        require(array.ndim == 1 and array.flags.c_contiguous, f"takes {name} as a contiguous vector")
        require(array.ctypes.data % _ALIGNMENT == 0, f"takes {name} aligned to {_ALIGNMENT} bytes")
    limits = np.iinfo(np.int32 if function.index == "i32" else np.int64)
    for name, value in zip(function.scalars, scalars):
        require(limits.min <= value <= limits.max, f"takes {name} as {function.index}, not {value}")


def _arguments(function: TritonFunction, pointers: Sequence[Array], scalars: Sequence[int]) -> list[Any]:
    """The scalar tensors that stand for the parameters, with exactly the types of the signature."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    def scalar(value: int, kind: Any, storage: type[np.generic]) -> Any:
        return tl.tensor(TensorHandle(np.array([value], dtype=storage), kind), kind)

    def element(dtype: DType) -> Any:
        return tl.uint8 if dtype is DType.BOOL else getattr(tl, REGISTER_TYPES[dtype].removeprefix("tl."))

    index, index_storage = (tl.int32, np.int32) if function.index == "i32" else (tl.int64, np.int64)
    addresses = [
        scalar(array.ctypes.data, tl.pointer_type(element(dtype)), np.uint64)
        for (_, dtype), array in zip(function.pointers, pointers)
    ]
    return addresses + [scalar(value, index, index_storage) for value in scalars]


@contextlib.contextmanager
def _interpreting(kernel: Any, pointers: Sequence[Array]) -> Iterator[tuple[Callable[..., None], Any]]:
    """The body of `kernel` to call and the builder that it works with, while Triton is patched."""
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.runtime import interpreter

    from dlc.backends.triton.interpreter_builder import Builder, libdevice_function, reduce_by_halves

    builder = Builder([(array.ctypes.data, array.ctypes.data + array.nbytes) for array in pointers])
    namespaces = [tl, tl.core, tl.math, tl.standard, tl.random]
    classes = [tl.tensor, tl.dtype, tl.condition, tl.core.tensor_descriptor_base]
    internals = [interpreter, interpreter.InterpretedFunction]
    internals += [interpreter.ReduceScanOpInterface, interpreter.ReduceOps]
    with (
        _restored([*namespaces, *classes, *internals, interpreter.interpreter_semantic, libdevice]),
        _restored_globals(kernel),
        np.errstate(all="ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN among the operands of a maximum
        interpreter.interpreter_semantic.builder = interpreter.interpreter_builder = builder
        interpreter.InterpretedFunction.__call__ = _call_helper
        interpreter.ReduceScanOpInterface.check_tensor = _checked(
            interpreter.ReduceScanOpInterface.check_tensor
        )
        interpreter.ReduceOps.generic_reduce = reduce_by_halves
        for namespace in namespaces:
            _interpret_helpers(vars(namespace), functools.partial(setattr, namespace))
            _name_internals(vars(namespace))
        _interpret_helpers(vars(tl.tensor), lambda name, helper: setattr(tl.tensor, name, _method(helper)))
        _interpret_helpers(kernel.__globals__, kernel.__globals__.__setitem__)
        _name_internals(kernel.__globals__)
        for name in [name for name in vars(libdevice) if not name.startswith("_")]:
            setattr(libdevice, name, libdevice_function(name))
        body = _interpreted(kernel).rewrite()
        # It patches the modules that it finds among a function's globals: Triton's helpers use `tl.core`.
        interpreter._patch_lang(types.SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        # Triton 3.6 converts an array of one element, which NumPy 2.4 refuses.
        tl.tensor.__index__ = lambda self: int(self.handle.data.item())
        yield body, builder


@functools.lru_cache(maxsize=4096)
def _interpreted(function: Any) -> Any:
    """The interpreter's form of a Python function that was decorated with `triton.jit`."""
    from triton.runtime.interpreter import InterpretedFunction

    return InterpretedFunction(function)


def _interpret_helpers(names: Any, replace: Callable[[str, Any], None]) -> None:
    """Replace the functions among `names` that were decorated for compilation."""
    from triton.runtime.jit import JITFunction

    for name, value in list(names.items()):
        if isinstance(value, JITFunction):
            replace(name, _interpreted(value.fn))


def _name_internals(names: dict[str, Any]) -> None:
    """Define what the interpreter's rewritten functions refer to."""
    from triton.runtime import interpreter

    for name in ("interpreter_semantic", "_InterpreterComparison"):
        if hasattr(interpreter, name):
            names[name] = getattr(interpreter, name)


def _call_helper(self: Any, *arguments: Any, **keywords: Any) -> Any:
    """A call of one function by another: the language has been patched for the whole launch."""
    keywords.pop("_semantic", None)
    return self.rewrite()(*arguments, **keywords)


def _method(helper: Any) -> Callable[..., Any]:
    """`helper` as a function that Python binds to the object it is read from."""
    return lambda *arguments, **keywords: helper(*arguments, **keywords)


def _checked(check_tensor: Callable[..., None]) -> Callable[..., None]:
    """The check of the operands of reductions and scans, which also refuses types that are kept as bits."""
    from dlc.backends.triton.interpreter_builder import SMALL_FLOATS

    def check(self: Any, operands: Any) -> None:
        check_tensor(self, operands)
        for operand in operands:
            if operand.dtype in SMALL_FLOATS:
                raise TypeError(f"reduction of {operand.dtype}: convert to float32 after the load")

    return check


@contextlib.contextmanager
def _restored(objects: Sequence[Any]) -> Iterator[None]:
    """Give `objects` back the attributes that they have now."""
    before = [(thing, dict(vars(thing))) for thing in objects]
    try:
        yield
    finally:
        for thing, attributes in before:
            now = dict(vars(thing))
            for name in now.keys() - attributes.keys():
                delattr(thing, name)
            for name, value in attributes.items():
                if now.get(name, _MISSING) is not value:
                    setattr(thing, name, value)


@contextlib.contextmanager
def _restored_globals(function: Any) -> Iterator[None]:
    """Give the globals of `function` back the values that they have now."""
    names = function.__globals__
    before = dict(names)
    try:
        yield
    finally:
        names.clear()
        names.update(before)

"""Writes one Triton function: its parameters as they are used, its body, its module text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.triton.dims import dim_text
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.semantics import helpers_of
from dlc.backends.triton.writer import Writer
from dlc.ir.dims import Dim, Symbol, bounds, product
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel, Param

#: Where generated code reports an index from data that is out of range.
FAULT = "fault"
_HEADER = """# {title}
import triton
import triton.language as tl
from triton.language.extra import libdevice

"""
#: With more elements than that, a 32-bit index of a point of the last block does not reach.
MOST_ELEMENTS = (1 << 31) - (1 << 16)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a call does, where there are several `ways` to: `key` names it, `way` is the one taken."""

    key: str
    way: int
    ways: int


@dataclasses.dataclass(frozen=True)
class Call:
    """A launch of a function within a kernel: what stands for its pointers and scalars.

    `pointers` are names of the kernel's parameters, of workspaces, or FAULT; `scalars` the dims whose numbers
    are passed.
    """

    function: TritonFunction
    template: str
    pointers: tuple[str, ...]
    scalars: tuple[Dim, ...]
    work: Work | None = None


class FunctionBuilder(Writer):
    """The function of a kernel that is being written.

    Parameters of the kernel keep their names, symbols become n0, n1, ...
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.index = index_type(kernel)
        self._params = {param.name: param for param in kernel.params}
        self._pointers: dict[str, DType] = {}
        self._symbols: dict[str, tuple[str, Symbol]] = {}
        #: Symbols that are variables of the function: axes, and indices that come from data.
        self._variables = {axis.name for axis in kernel.axes}

    def name(self, prefix: str) -> str:
        """A new variable name, which is none of the kernel's."""
        name = super().name(prefix)
        while name in self._params or name in self._variables:
            name = super().name(prefix)
        return name

    def param(self, name: str) -> Param:
        """A parameter of the kernel, which thereby becomes one of the function."""
        param = self._params[name]
        self._pointers.setdefault(name, param.type.dtype)
        return param

    def fault(self) -> str:
        """The pointer to where faults are reported."""
        self._pointers[FAULT] = DType.I32
        return FAULT

    def symbol(self, symbol: Symbol) -> str:
        """What a symbol is called: a variable by its name, a number that is passed as a parameter."""
        if symbol.name in self._variables:
            return symbol.name
        name, _ = self._symbols.setdefault(symbol.name, (f"n{len(self._symbols)}", symbol))
        return name

    def variable(self, prefix: str, text: str) -> Symbol:
        """A new variable that holds a number >= 0, as a symbol for dims."""
        return self.alias(self.assign(prefix, text))

    def alias(self, name: str) -> Symbol:
        """A variable of the function that holds a number >= 0, as a symbol for dims."""
        self._variables.add(name)
        return Symbol(name)

    def dim(self, dim: Dim) -> str:
        """The source of a dim."""
        return dim_text(dim, self.symbol)

    def finish(
        self, template: str, grid: Sequence[Dim], *, num_warps: int = 4, num_stages: int = 3
    ) -> Call:
        """The function with everything that was written, and how to call it."""
        entries = [(name, dtype) for name, dtype in self._pointers.items() if name != FAULT]
        if FAULT in self._pointers:
            entries.append((FAULT, DType.I32))
        scalars = [name for name, _ in self._symbols.values()]
        name = f"{self.kernel.name}_{template}"
        parameters = ", ".join([*(name for name, _ in entries), *scalars])
        body = "\n".join(self.lines) or "    pass"
        main = f"@triton.jit\ndef {name}({parameters}):\n{body}\n"
        parts = [*helpers_of(main), main]
        title = f"{template} of {', '.join(self.kernel.origins) or self.kernel.name}"
        text = _HEADER.format(title=title.encode("unicode_escape").decode("ascii")[:200])
        function = TritonFunction(
            name,
            text + "\n\n".join(parts),
            tuple(entries),
            tuple(scalars),
            tuple(grid),
            num_warps,
            num_stages,
            self.index,
        )
        numbers = tuple(symbol for _, symbol in self._symbols.values())
        return Call(function, template, tuple(name for name, _ in entries), numbers)


def index_type(kernel: Kernel) -> str:
    """The type of indices: i64 only where a tensor's known size needs it.

    A launch whose symbols make a tensor larger than that is refused when its sizes are known.
    """
    sizes = (bounds(product(param.type.physical_shape))[0] or 0 for param in kernel.params)
    return "i64" if max(sizes, default=0) > MOST_ELEMENTS else "i32"

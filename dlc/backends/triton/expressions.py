"""Value expressions of the kernel IR as Triton source.

The points at which expressions are computed come in *tiles*: each axis of the kernel belongs to one, and has
a variable in the source that holds its indices, a tensor of the tile's shape or a number. Values broadcast
against each other as the shapes of their tiles do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from dlc.backends.triton.function_builder import FunctionBuilder
from dlc.backends.triton.offsets import Offsets, Tile
from dlc.backends.triton.semantics import binary, cast, compare, constant, select, unary
from dlc.ir.dims import Dim, free_symbols, is_nonnegative
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims
from dlc.lowering.kernel import Map, Param, Store

#: Texts up to this length stand within others.
_SHORT = 48

Mask: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Points:
    """Where values are computed: the product of some tiles. Axes that are in none of them are numbers."""

    tiles: tuple[Tile, ...]

    def along(self, names: Iterable[str]) -> tuple[Tile, ...]:
        """The tiles along which something differs that speaks of some axes."""
        wanted = set(names)
        return tuple(tile for tile in self.tiles if not wanted.isdisjoint(tile.moving))

    def over(self, names: Iterable[str]) -> tuple[Tile, ...]:
        """The tiles of some axes, and those without any."""
        wanted = set(names)
        return tuple(tile for tile in self.tiles if not tile.axes or not wanted.isdisjoint(tile.axes))

    def mask(self, names: Iterable[str]) -> Mask:
        """The variables that say where the points of some axes exist."""
        return tuple(tile.bound for tile in self.over(names) if tile.bound is not None)


class Emitter:
    """Writes expressions at some points; equal ones once.

    `locals` gives the variable of a local at the current points; a local of `maps` is computed where it is
    read.
    """

    def __init__(
        self,
        builder: FunctionBuilder,
        points: Points,
        locals_: Mapping[str, str] | None = None,
        maps: Mapping[str, Map] | None = None,
    ) -> None:
        self.builder = builder
        self.points = points
        self.locals = dict(locals_ or {})
        self.maps = maps or {}
        self._done: dict[tuple[e.Expr, Mask], str] = {}
        self._conditions: dict[e.InRange, str] = {}
        self._offsets = Offsets(builder, points.tiles)
        #: The tiles along which a condition or a check differs.
        self._shapes: dict[str, tuple[Tile, ...]] = {t.bound: (t,) for t in points.tiles if t.bound}

    def inner(self, points: Points | None = None) -> Emitter:
        """An emitter for a loop's body, where everything that is known here is known."""
        emitter = Emitter(self.builder, points or self.points, self.locals, self.maps)
        emitter._done = dict(self._done)
        emitter._conditions = dict(self._conditions)
        emitter._offsets = self._offsets.inner(emitter.points.tiles)
        emitter._shapes |= self._shapes
        return emitter

    # --- masks

    def condition(self, m: e.InRange) -> str:
        """The source of a condition of a mask."""
        dim = self.builder.dim
        index = dim(m.index)
        parts = []
        if not (m.low == 0 and is_nonnegative(m.index)):
            parts.append(f"({index} >= {dim(m.low)})")
        parts.append(f"({index} < {dim(m.high)})")
        return " & ".join(parts)

    def conditions(self, mask: Sequence[e.InRange]) -> Mask:
        """Variables that hold the conditions of a mask."""
        for m in mask:
            if m not in self._conditions:
                name = self._conditions[m] = self.builder.assign("m", self.condition(m))
                self._shapes[name] = self._tiles((m.index, m.low, m.high))
        return tuple(self._conditions[m] for m in mask)

    # --- values

    def value(self, root: e.Expr, mask: Mask = ()) -> str:
        """The source of a value; loads are made where `mask` holds only."""
        uses: dict[e.Expr, int] = {}
        for node in e.walk(root):
            for child in e.children(node):
                uses[child] = uses.get(child, 0) + 1
        for node in e.walk(root):
            self._node(node, mask, uses.get(node, 0))
        return self._done[root, mask]

    def _node(self, node: e.Expr, mask: Mask, uses: int) -> None:
        key = (node, mask)
        if key in self._done:
            return
        text = self._text(node, mask)
        if uses > 1 or len(text) > _SHORT or isinstance(node, e.Load):
            text = self.builder.assign("v", text)
        self._done[key] = text

    def _text(self, node: e.Expr, mask: Mask) -> str:
        done = self._done
        match node:
            case e.Const(dtype, number):
                return constant(number, dtype)
            case e.Iota(dtype, index):
                return self._iota(dtype, index)
            case e.Load():
                return self._load(node, mask)
            case e.Read():
                return self._read(node, mask)
            case e.Unary(_, fn, operand):
                return unary(fn, operand.dtype, done[operand, mask])
            case e.Binary(dtype, fn, left, right):
                return binary(fn, dtype, done[left, mask], done[right, mask])
            case e.Compare(_, fn, left, right):
                return compare(fn, left.dtype, done[left, mask], done[right, mask])
            case e.Select(_, condition, then, otherwise):
                return select(done[condition, mask], done[then, mask], done[otherwise, mask])
            case e.Cast(dtype, operand, mode):
                return cast(operand.dtype, dtype, mode, done[operand, mask])
        raise TypeError(f"{type(node).__name__} is no expression")

    def _iota(self, dtype: DType, index: Dim) -> str:
        text = self.builder.dim(index)
        if isinstance(index, int):
            return constant(index, dtype)
        held = DType.I64 if self.builder.index == "i64" else DType.I32
        return cast(held, dtype, e.CastMode.WRAP, f"tl.cast({text}, tl.{_INTEGER[held]})")

    def _read(self, node: e.Read, mask: Mask) -> str:
        inner = self.conditions(node.mask)
        if node.local in self.locals:
            value = self.locals[node.local]
        else:
            stage = self.maps[node.local]
            index = dict(zip(stage.out.axes, node.index, strict=True))
            value = self.value(e.substitute(stage.value, index), _join(mask, inner))
        if not inner:
            return value
        assert node.other is not None
        return select(" & ".join(inner), value, self._done[node.other, mask])

    def _load(self, node: e.Load, mask: Mask) -> str:
        param = self.builder.param(node.param)
        inner = self.conditions(node.mask)
        at, allowed = self.address(node.param, node.index, _join(mask, inner))
        if not allowed:
            return loaded(node.dtype, f"tl.load({at})")
        constant_other = isinstance(node.other, e.Const)
        other = _stored_constant(node.other) if isinstance(node.other, e.Const) else _nothing(param)
        text = loaded(param.type.dtype, f"tl.load({at}, mask={' & '.join(allowed)}, other={other})")
        if node.other is None or constant_other:
            return text
        return select(" & ".join(inner), text, self._done[node.other, mask])

    def address(
        self, name: str, index: Sequence[e.Index], mask: Mask, shape: Sequence[Tile] = ()
    ) -> tuple[str, Mask]:
        """Where an element of a parameter lies, and the conditions under which it may be accessed.

        These are those of `mask`, that the points exist, and that indices from data are in range. The
        address has the shape of all its conditions, and of the tiles `shape` at least.
        """
        param = self.builder.param(name)
        tiles = self._tiles([dim for entry in index for dim in _dims(entry)])
        allowed = _join(tuple(tile.bound for tile in tiles if tile.bound is not None), mask)
        entries: list[Dim] = []
        for axis, entry in enumerate(index):
            if isinstance(entry, e.Expr):
                at, good = self._checked(entry, param.type.shape[axis], allowed, mask)
                allowed = (*allowed, good)
                self._shapes[good] = self._tiles(_dims(entry))
                entry = at
            entries.append(entry)
        offset = self._offset(param, entries)
        wanted = dict.fromkeys((*shape, *(tile for each in allowed for tile in self._shapes[each])))
        for tile in wanted:
            if tile not in tiles:
                offset = f"{offset} + {tile.flat} * 0"
        return (f"{name} + {offset}" if offset != "0" else name), allowed

    def _tiles(self, dims: Sequence[Dim]) -> tuple[Tile, ...]:
        """The tiles along which some dims differ."""
        return self.points.along(symbol.name for dim in dims for symbol in free_symbols(dim))

    def _checked(self, entry: e.Expr, extent: Dim, allowed: Mask, mask: Mask) -> tuple[Dim, str]:
        """An index from data as a symbol that names its variable, and where it is in range.

        Where it is not, the fault is reported and the index is 0.
        """
        builder = self.builder
        value = self.value(entry, mask)
        good = builder.assign("m", f"({value} >= 0) & ({value} < {builder.dim(extent)})")
        bad = " & ".join((*allowed, f"({good} == 0)"))
        builder.line(f"index_fault({builder.fault()}, {bad})")
        symbol = builder.variable("i", f"tl.where({good}, {value}, 0).to(tl.{_INDEX[builder.index]})")
        return symbol, good

    def _offset(self, param: Param, index: Sequence[Dim]) -> str:
        """The source of the offset in elements of a logical index."""
        layout = param.type.layout
        physical = layout.physical_index(index) if layout else index
        total: Dim = 0
        for at, stride in zip(physical, param.physical_strides(), strict=True):
            total = total + at * stride
        return self._offsets.text(total)

    # --- stores

    def store(self, stage: Store) -> None:
        """Write a plain store at the current points."""
        value = self.value(stage.value)
        mask = _join(self.points.mask(stage.axes), self.conditions(stage.mask))
        at, allowed = self.address(stage.param, stage.index, mask, self.points.over(stage.axes))
        where = f", mask={' & '.join(allowed)}" if allowed else ""
        self.builder.line(f"tl.store({at}, {stored(stage.value.dtype, value)}{where})")


def loaded(dtype: DType, value: str) -> str:
    """What memory holds as a value: a byte is a bool."""
    return f"({value} != 0)" if dtype is DType.BOOL else value


def stored(dtype: DType, value: str) -> str:
    """A value as memory holds it: a bool is a byte."""
    return f"({value}).to(tl.uint8)" if dtype is DType.BOOL else value


_INTEGER = {DType.I32: "int32", DType.I64: "int64"}
_INDEX = {"i32": "int32", "i64": "int64"}


def _join(left: Mask, right: Mask) -> Mask:
    return tuple(dict.fromkeys((*left, *right)))


def _stored_constant(other: e.Const) -> str:
    return str(int(bool(other.value))) if other.dtype is DType.BOOL else constant(other.value, other.dtype)


def _nothing(param: Param) -> str:
    """What stands for elements that are not loaded; Triton converts no integer to 8-bit floats."""
    dtype = param.type.dtype
    return constant(0.0, dtype) if dtype.is_float and dtype.bits == 8 else "0"


def _dims(entry: e.Index) -> tuple[Dim, ...]:
    """The dims on which an index entry depends, through its data, too."""
    return tuple(expr_dims(entry)) if isinstance(entry, e.Expr) else (entry,)

"""Binary heaps of integer keys with positions, for templates that select by order."""

from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module


class Heap:
    """A binary heap in memory, keys and positions apart, the worst element first."""

    def __init__(self, b: FunctionBuilder, key: t.IRType, memory: t.Value, key_bytes: t.Value) -> None:
        self.b = b
        self.element = key
        self.keys = memory
        self.positions = b.byte_offset(memory, key_bytes)

    def key(self, place: t.Index) -> t.Value:
        """The key at a place."""
        return self.b.load(self.b.offset(self.keys, place, self.element), self.element)

    def position(self, place: t.Index) -> t.Value:
        """The position at a place."""
        return self.b.load(self.b.offset(self.positions, place, t.i64), t.i64)

    def put(self, place: t.Index, key: t.Value, position: t.Value) -> None:
        """Set an element."""
        self.b.store(key, self.b.offset(self.keys, place, self.element))
        self.b.store(position, self.b.offset(self.positions, place, t.i64))

    def sift(self, place: t.Index, count: t.Index) -> None:
        """Move the element at `place` down a heap of `count` until it is no better than those below it."""
        name = f"heap_sift_{self.element}"
        if self.b.module.defined(name) is None:
            _write_sift(self.b.module, name, self.element)
        self.b.call(name, [self.keys, self.positions, place, count])


def _write_sift(module: Module, name: str, element: t.IRType) -> None:
    """The function behind :meth:`Heap.sift`."""
    params = [("keys", t.ptr), ("positions", t.ptr), ("place", t.i64), ("count", t.i64)]
    b = module.function(name, params, internal=True)
    keys, positions, place, count = b.params
    heap = Heap(b, element, keys, b.value(0))
    heap.positions = positions
    key, position = heap.key(place), heap.position(place)
    last = b.smax(b.sub(count, 1), 0)
    with b.repeat(carry=[place], name="sift") as loop:
        hole = loop.carried[0]
        left = b.add(b.shl(hole, 1), 1)
        # A child that does not exist is read as the last element, and not moved.
        left_safe, right_safe = b.smin(left, last), b.smin(b.add(left, 1), last)
        left_key, left_position = heap.key(left_safe), heap.position(left_safe)
        right_key, right_position = heap.key(right_safe), heap.position(right_safe)
        take_right = _worse(b, right_key, right_position, left_key, left_position)
        child = b.select(take_right, right_safe, left_safe)
        child_key = b.select(take_right, right_key, left_key)
        child_position = b.select(take_right, right_position, left_position)
        moves = b.and_(b.icmp("slt", left, count), _worse(b, child_key, child_position, key, position))
        with b.if_(moves):
            heap.put(hole, child_key, child_position)
        loop.next = (b.select(moves, child, hole),)
        loop.again = moves
    heap.put(loop.results[0], key, position)


def _worse(
    b: FunctionBuilder, key: t.Value, position: t.Value, other_key: t.Value, other_position: t.Value
) -> t.Value:
    """Whether one element is worse than another: by its key, or as the later one of two equal ones."""
    equal = b.icmp("eq", key, other_key)
    later = b.icmp("sgt", position, other_position)
    return b.or_(b.icmp("slt", key, other_key), b.and_(equal, later))

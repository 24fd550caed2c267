"""Running PTX on the CPU: what compiled elementwise functions compute, told without a GPU.

All threads run in step in NumPy: a register is an array of 64-bit words, one a thread. Of threads that have
diverged, those at the earliest instruction go first. The instructions are those of NVIDIA's PTX ISA that
scalar code is compiled to; there are no calls and no shared memory. Approximations (`ex2.approx`) are
computed in float64 and rounded, so that errors come out a little smaller than a GPU's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

_BF16 = np.dtype(ml_dtypes.bfloat16)
_TYPES = {
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "ub" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"f{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
    "bf16": _BF16,
    "pred": np.dtype(np.bool_),
}
_MINIFLOATS = {"e4m3x2": np.dtype(ml_dtypes.float8_e4m3fn), "e5m2x2": np.dtype(ml_dtypes.float8_e5m2)}
_LOCAL_BYTES = 256


class UnsupportedInstruction(Exception):
    """An instruction that this machine does not have was reached."""


@dataclass(frozen=True)
class _Instruction:
    """`guard`: the predicate register under which it runs, and whether that must be false."""

    guard: tuple[str, bool] | None
    name: str
    parts: tuple[str, ...]
    operands: tuple[str, ...]


def run(ptx: str, arrays: Sequence[Array], blocks: int, threads: int = 32) -> None:
    """Run the entry point of `ptx` in `blocks` blocks of `threads`, in place on `arrays`, its pointers."""
    machine = _Machine(ptx, arrays, blocks * threads)
    lane = np.arange(blocks * threads, dtype=np.uint64)
    machine.registers |= {"%tid.x": lane % np.uint64(threads), "%ctaid.x": lane // np.uint64(threads)}
    machine.run()
    for array, place in zip(arrays, machine.places):
        array.view(np.uint8)[:] = machine.memory[place : place + array.nbytes]


# -- reading ---------------------------------------------------------------------------------------


def _tables(ptx: str) -> dict[str, Array]:
    """Constant arrays by name."""
    found = re.findall(r"^\.global \.align \d+ \.b8 ([\w$]+)\[\d+\] = \{([^}]*)\};", ptx, re.MULTILINE)
    return {name: np.array([int(byte) for byte in data.split(",")], np.uint8) for name, data in found}


def _code(ptx: str) -> tuple[list[_Instruction], dict[str, int]]:
    """The instructions of the entry point, and the places of its labels."""
    body = ptx[ptx.index(".entry") :].partition("\n{")[2].partition("// -- End function")[0]
    instructions: list[_Instruction] = []
    labels: dict[str, int] = {}
    for statement in _statements(re.sub(r"//.*", "", body)):
        label, colon, rest = statement.partition(":")
        if colon and re.fullmatch(r"[$\w]+", label):
            labels[label] = len(instructions)
            statement = rest.strip()
        if statement and statement[0] not in ".{}":
            instructions.append(_instruction(statement))
    return instructions, labels


def _statements(body: str) -> Iterator[str]:
    for line in map(str.strip, body.splitlines()):
        scope = line.startswith("{")
        for statement in (line[1:].removesuffix("}") if scope else line).split(";"):
            yield statement.strip()


def _instruction(statement: str) -> _Instruction:
    guard = None
    if statement.startswith("@"):
        text, statement = statement[1:].split(None, 1)
        guard = (text.lstrip("!"), text.startswith("!"))
    opcode, *rest = statement.split(None, 1)
    name, *parts = opcode.split(".")
    operands = re.split(r",(?![^{\[]*[}\]])", rest[0]) if rest else []
    return _Instruction(guard, name, tuple(parts), tuple(operand.strip() for operand in operands))


def _names(operand: str) -> list[str]:
    """The registers of ``{a, b}``, or the one register."""
    return [name.strip() for name in operand.strip("{} ").split(",")]


# -- running ---------------------------------------------------------------------------------------


class _Machine:
    """`places`: where the arrays begin in `memory`, which tables and each thread's own memory follow."""

    def __init__(self, ptx: str, arrays: Sequence[Array], lanes: int) -> None:
        self.code, self.labels = _code(ptx)
        self.lanes = lanes
        self.registers: dict[str, Array] = {}
        self.active = np.ones(lanes, np.bool_)
        self.carry = np.zeros(lanes, np.uint64)
        tables = _tables(ptx)
        parts = [np.zeros(16, np.uint8), *(array.view(np.uint8) for array in arrays), *tables.values()]
        ends = np.cumsum([len(part) for part in parts])
        self.places = [int(end) for end in ends[: len(arrays)]]
        self.symbols = dict(zip(tables, ends[len(arrays) :].tolist()))
        local = np.zeros(lanes * _LOCAL_BYTES, np.uint8)
        self.local = np.uint64(ends[-1]) + np.arange(lanes, dtype=np.uint64) * np.uint64(_LOCAL_BYTES)
        self.memory = np.concatenate([*parts, local])

    def run(self) -> None:
        place = np.zeros(self.lanes, np.int64)
        with np.errstate(all="ignore"):
            while (at := int(place.min())) < len(self.code):
                here = place == at
                place[here] = at + 1
                instruction = self.code[at]
                if instruction.guard is not None:
                    register, negated = instruction.guard
                    here = here & ((self.registers[register] != 0) != negated)
                if instruction.name == "bra":
                    place[here] = self.labels[instruction.operands[0]]
                elif instruction.name == "ret":
                    place[here] = len(self.code)
                elif here.any():
                    self.active = here
                    self.execute(instruction)

    def read(self, operand: str, type: str) -> Array:
        """The numbers that an operand holds, as numbers of `type`."""
        dtype = _TYPES[type]
        name = operand.lstrip("!")
        words = self.registers.get(name)
        if words is None:
            words = np.full(self.lanes, self.immediate(name) & (2**64 - 1), np.uint64)
        if dtype == np.bool_:
            return (words != 0) != operand.startswith("!")
        return words.astype(f"u{dtype.itemsize}").view(dtype)

    def immediate(self, text: str) -> int:
        if text.startswith(("0f", "0d")):
            return int(text[2:], 16)
        if text.startswith("%"):
            return 0  # not written yet
        return self.symbols[text] if text in self.symbols else int(text.removesuffix("U"), 0)

    def write(self, operand: str, numbers: Array) -> None:
        """Set a register, in the threads that are active."""
        if numbers.dtype != np.bool_:
            numbers = np.ascontiguousarray(numbers).view(f"u{numbers.dtype.itemsize}")
        old = self.registers.get(operand, np.zeros(self.lanes, np.uint64))
        self.registers[operand] = np.where(self.active, numbers.astype(np.uint64), old)

    def addresses(self, operand: str, itemsize: int) -> Array:
        """The places of the bytes of an element of each active thread."""
        base, _, offset = operand.strip("[] ").partition("+")
        local = base.startswith(("%SP", "__local_depot"))
        start = self.local if local else self.read(base.strip(), "u64")
        first = start + np.uint64(int(offset or "0", 0) & (2**64 - 1))
        return first[self.active, None] + np.arange(itemsize, dtype=np.uint64)

    def execute(self, instruction: _Instruction) -> None:
        name, parts, operands = instruction.name, instruction.parts, instruction.operands
        type = parts[-1]
        match name:
            case "ld" if parts[0] == "param":
                number = int(operands[1].strip("[]").rpartition("_")[2])
                place = self.places[number] if number < len(self.places) else 0
                self.write(operands[0], np.full(self.lanes, place, np.uint64))
            case "ld" | "st":
                self.access(name == "st", _TYPES[type], operands)
            case "mov" if "{" in "".join(operands):
                self.pack(operands, int(type[1:]))
            case "mov" | "cvta":
                depot = operands[1].startswith(("%SP", "__local_depot"))
                self.write(operands[0], self.local if depot else self.read(operands[1], type))
            case "setp":
                self.write(operands[0], _compare(parts[0], *(self.read(o, type) for o in operands[1:3])))
            case "selp":
                then, otherwise = (self.read(operand, type) for operand in operands[1:3])
                self.write(operands[0], np.where(self.read(operands[3], "pred"), then, otherwise))
            case "cvt" if parts[-1] in _MINIFLOATS:
                codes = self.read(operands[1], "u16").view(_MINIFLOATS[parts[-1]])
                self.write(operands[0], codes.astype(np.float16).view(np.uint32))
            case "cvt" if parts[-2] in _MINIFLOATS:
                pair = np.stack([self.read(operand, "f32") for operand in operands[:0:-1]], axis=1)
                small = _MINIFLOATS[parts[-2]]
                largest = np.float32(ml_dtypes.finfo(small).max)
                codes = np.clip(pair, -largest, largest).astype(small).view(np.uint16)[:, 0]
                self.write(operands[0], np.ascontiguousarray(codes))
            case "cvt":
                self.write(operands[0], _convert(parts, self.read(operands[1], parts[-1])))
            case _ if "cc" in parts or name in ("addc", "subc", "madc"):
                self.write(operands[0], self.with_carry(instruction))
            case "mul" | "mad" if parts[0] in ("wide", "hi"):
                self.write(operands[0], self.wide_product(parts, operands))
            case "shl" | "shr":
                count = self.read(operands[2], "u32")
                self.write(operands[0], _shift(name, self.read(operands[1], type), count))
            case "bfe":
                at, count = (self.read(operand, "u32") for operand in operands[2:])
                self.write(operands[0], _extract(self.read(operands[1], type), at, count))
            case "prmt" | "shf":
                words = [self.read(operand, "u32") for operand in operands[1:]]
                self.write(operands[0], _FIELDS[name](*words))
            case _:
                numbers = [self.read(operand, type) for operand in operands[1:]]
                if "ftz" in parts:
                    numbers = [_flushed(number) for number in numbers]
                result = _arithmetic(name, parts, numbers)
                self.write(operands[0], _flushed(result) if "ftz" in parts else result)

    def access(self, store: bool, dtype: np.dtype[Any], operands: Sequence[str]) -> None:
        """Loads and stores, of several registers where they stand in braces."""
        where, registers = operands if store else operands[::-1]
        for number, register in enumerate(_names(registers)):
            places = self.addresses(where, dtype.itemsize) + np.uint64(number * dtype.itemsize)
            if store:
                word = self.read(register, f"u{8 * dtype.itemsize}")[self.active]
                self.memory[places] = word[:, None].view(np.uint8)
            else:
                words = np.zeros(self.lanes, f"u{dtype.itemsize}")
                words[self.active] = self.memory[places].view(f"u{dtype.itemsize}")[:, 0]
                self.write(register, words)

    def pack(self, operands: Sequence[str], bits: int) -> None:
        """Several registers as one, or one as several."""
        to, source = map(_names, operands)
        width = bits // max(len(to), len(source))
        word = np.zeros(self.lanes, np.uint64)
        for number, register in enumerate(source):
            part = self.read(register, f"u{bits // len(source)}")
            word |= part.astype(np.uint64) << np.uint64(number * width)
        for number, register in enumerate(to):
            part = (word >> np.uint64(number * width)).astype(f"u{bits // len(to) // 8}")
            if register != "_":
                self.write(register, part)

    def wide_product(self, parts: Sequence[str], operands: Sequence[str]) -> Array:
        """Products of twice the width, or their upper halves."""
        bits = 8 * _TYPES[parts[-1]].itemsize
        left, right = (self.read(operand, parts[-1]).astype(object) for operand in operands[1:3])
        width = 2 * bits if parts[0] == "wide" else bits
        product = left * right if parts[0] == "wide" else (left * right) >> bits
        result = np.array([int(p) % 2**width for p in product], np.uint64).astype(f"u{width // 8}")
        return result + self.read(operands[3], f"u{width}") if len(operands) == 4 else result

    def with_carry(self, instruction: _Instruction) -> Array:
        """32-bit additions and products that take a carry, leave one, or both."""
        name, parts, operands = instruction.name, instruction.parts, instruction.operands
        numbers = [self.read(operand, "u32").astype(np.uint64) for operand in operands[1:]]
        taken = self.carry if name.endswith("c") else np.uint64(0)
        if name.startswith("mad"):
            product = numbers[0] * numbers[1]
            half = product >> np.uint64(32) if "hi" in parts else product & np.uint64(2**32 - 1)
            total = half + numbers[2] + taken
        elif name.startswith("add"):
            total = numbers[0] + numbers[1] + taken
        else:
            total = numbers[0] - numbers[1] - taken
        if "cc" in parts:
            self.carry = np.where(self.active, (total >> np.uint64(32)) & np.uint64(1), self.carry)
        return total.astype(np.uint32)


# -- instructions ----------------------------------------------------------------------------------


def _flushed(x: Array) -> Array:
    """Denormals of f32 as zeros."""
    if x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


_COMPARISONS: Mapping[str, Callable[[Array, Array], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _compare(how: str, x: Array, y: Array) -> Array:
    """A third letter u makes a comparison true where an operand is NaN."""
    if x.dtype.kind in "iu":
        return np.asarray(_COMPARISONS[how](x, y))
    either = np.isnan(x.astype(np.float64)) | np.isnan(y.astype(np.float64))
    if how in ("num", "nan"):
        return either == (how == "nan")
    return np.where(either, len(how) == 3, _COMPARISONS[how[:2]](x, y))


_ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def _convert(parts: Sequence[str], x: Array) -> Array:
    """cvt between numbers; a float out of the range of an integer type gives the nearest number, NaN 0."""
    *modifiers, target = (*parts[:-2], _TYPES[parts[-2]])
    if target.kind in "iu" and x.dtype.kind in "iu":
        # A register is wider than a type of 8 bits, and what is narrower is extended.
        return x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
    if x.dtype.kind in "iu" and target.itemsize >= 4:
        return x.astype(target)
    if x.dtype.itemsize == 8 and target.itemsize == 2 and not (target.kind == "f" and x.dtype.kind == "f"):
        raise UnsupportedInstruction(f"cvt.{'.'.join(parts)}")
    number = (_flushed(x) if "ftz" in modifiers else x).astype(np.float64)
    for modifier, function in _ROUNDINGS.items():
        if modifier in modifiers:
            number = function(number)
    if target.kind in "iu":
        info = np.iinfo(target)
        inside = (number >= info.min) & (number < float(info.max + 1))
        whole = np.where(inside, number, 0).astype(np.uint64 if target == np.uint64 else np.int64)
        extreme = np.where(number > 0, info.max, np.where(np.isnan(number), 0, info.min))
        return np.where(inside, whole.astype(target), extreme.astype(target))
    if "sat" in modifiers:
        number = np.where(np.isnan(number), 0.0, np.clip(number, 0.0, 1.0))
    return number.astype(np.float32).astype(target) if target == _BF16 else number.astype(target)


def _shift(name: str, x: Array, count: Array) -> Array:
    bits = 8 * x.dtype.itemsize
    if name == "shr" and x.dtype.kind == "i":
        return x >> np.minimum(count, bits - 1).astype(x.dtype)
    inside = count < bits
    safe = np.where(inside, count, 0).astype(x.dtype)
    return np.where(inside, x >> safe if name == "shr" else x << safe, x.dtype.type(0))


def _permute(low: Array, high: Array, selector: Array) -> Array:
    """prmt: four bytes out of eight; the mode that copies signs is not there."""
    word = (high.astype(np.uint64) << np.uint64(32)) | low
    result = np.zeros_like(low)
    for byte in range(4):
        chosen = (selector >> np.uint32(4 * byte)) & np.uint32(7)
        value = (word >> (chosen.astype(np.uint64) * np.uint64(8))) & np.uint64(0xFF)
        result |= value.astype(np.uint32) << np.uint32(8 * byte)
    return result


def _funnel(low: Array, high: Array, count: Array) -> Array:
    """shf.l.wrap: the upper half of a 64-bit word shifted to the left."""
    word = (high.astype(np.uint64) << np.uint64(32)) | low
    return ((word << (count % np.uint32(32)).astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _extract(x: Array, at: Array, count: Array) -> Array:
    """`count` bits from bit `at` on, which of a signed number have a sign; `at + count` is within it."""
    bits = x.dtype.type(8 * x.dtype.itemsize)
    above = bits - at.astype(x.dtype) - count.astype(x.dtype)
    return np.asarray((x << above) >> (bits - count.astype(x.dtype)))


_FIELDS = {"prmt": _permute, "shf": _funnel}

_PLAIN: Mapping[str, Callable[..., Array]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "max": np.fmax,
    "min": np.fmin,
    "copysign": lambda sign, x: np.copysign(x, sign),
}
#: Computed more exactly than the type and rounded.
_WIDE: Mapping[str, Callable[..., Array]] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "rcp": np.reciprocal,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "fma": lambda x, y, z: x * y + z,
}


def _arithmetic(name: str, parts: Sequence[str], numbers: Sequence[Array]) -> Array:
    """Instructions whose operands and results are of one type."""
    dtype = numbers[0].dtype
    if dtype.kind in "iu" and name in ("div", "rem"):
        return _quotient(name, *numbers)
    if dtype.kind in "iu" and name == "mad":
        return numbers[0] * numbers[1] + numbers[2]
    if "NaN" in parts:
        return (np.maximum if name == "max" else np.minimum)(*numbers)
    directed = {"rz", "rm"} & set(parts)
    if dtype.kind == "f" and (directed or name in _WIDE):
        function = _WIDE.get(name) or _PLAIN[name]
        wide = np.float64 if dtype == np.float32 else np.longdouble
        exact = function(*(number.astype(wide) for number in numbers))
        return _directed(exact, dtype, directed) if directed else exact.astype(dtype)
    if name not in _PLAIN:
        raise UnsupportedInstruction(".".join((name, *parts)))
    return _PLAIN[name](*numbers)


def _directed(exact: Array, dtype: np.dtype[Any], direction: set[str]) -> Array:
    """Rounded toward zero or down."""
    near = exact.astype(dtype)
    beyond = np.abs(near) > np.abs(exact) if direction == {"rz"} else near > exact
    toward = dtype.type(0 if direction == {"rz"} else -np.inf)
    return np.where(beyond, np.nextafter(near, toward), near)


def _quotient(name: str, dividend: Array, divisor: Array) -> Array:
    """Truncating division and its remainder; division by 0 gives all ones, as GPUs do."""
    results = []
    for a, b in zip(dividend.tolist(), divisor.tolist()):
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else -1
        results.append((quotient if name == "div" else a - b * quotient) % 2**64)
    return np.array(results, np.uint64).astype(dividend.dtype)

"""Where data goes in generated code: whether an address depends on it without a check.

A value is *data* if it was loaded from a parameter of a kernel (constants apart) or computed from such a
value; conditions are not, since they only choose among values that are looked at themselves. An index stops
being data where it is checked, `select (icmp uge x, extent), 0, x`, or clamped between two numbers that are
no data. Scratch memory and blocks of the stack are told apart by the type of their elements: data that was
stored there as f32 makes f32 loads data, not i64 ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_DEFINE = re.compile(r"define [^@]*@([\w.]+)\((.*)\) nounwind \{")
_PARAM = re.compile(r"(\S+) (?:noalias )?(%[\w.]+)")
_ASSIGN = re.compile(r"  (%[\w.]+) = (.*)")
_REF = re.compile(r"(?<!label )[%@][\w.]+")
_PHI = re.compile(r"\[([^,\]]+), %[\w.]+\]")
_CALL = re.compile(r"call .*?@([\w.]+)\((.*)\)")
_MEMORY = re.compile(r"(?:load|store|call .*@llvm\.masked\.)")
_ELEMENT = re.compile(r"<\d+ x (\w+)>")


@dataclass
class Function:
    """The instructions of one function: results with their text, and what has no result."""

    name: str
    params: list[tuple[str, str]]
    values: dict[str, str] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    #: What follows each label, for the search for reports.
    blocks: dict[str, list[str]] = field(default_factory=dict)


def parse(text: str) -> dict[str, Function]:
    """The functions of a module by name."""
    functions: dict[str, Function] = {}
    current: Function | None = None
    block = ""
    for line in text.splitlines():
        header = _DEFINE.match(line)
        if header:
            params = [(type_, name) for type_, name in _PARAM.findall(header.group(2))]
            current = functions[header.group(1)] = Function(header.group(1), params)
        elif current is not None and line.endswith(":"):
            block = line[:-1]
            current.blocks[block] = []
        elif current is not None and line.startswith("  "):
            current.blocks[block].append(line)
            assigned = _ASSIGN.match(line)
            if assigned:
                current.values[assigned.group(1)] = assigned.group(2)
            else:
                current.effects.append(line.strip())
    return functions


@dataclass(frozen=True)
class Root:
    """Memory: a parameter of the kernel by its slot ("param 0"), "scratch", "stack", "arguments", "table"."""

    name: str

    def is_private(self) -> bool:
        """Whether only the function itself writes it."""
        return self.name in ("scratch", "stack")


class Flow:
    """What is data in the functions that `kernel` is made of.

    `constants` are the slots of parameters that are known at compile time.
    """

    def __init__(self, functions: dict[str, Function], kernel: str, constants: set[int]) -> None:
        self.functions = functions
        self.kernel = kernel
        self.constants = {Root(f"param {slot}") for slot in constants}
        self.data: set[tuple[str, str]] = set()
        self.roots: dict[tuple[str, str], set[Root]] = {}
        self.stored: set[tuple[Root, str]] = set()
        self.returned: set[str] = set()
        self.seen = {kernel}
        args, _, scratch = (name for _, name in functions[kernel].params)
        self.roots[kernel, args] = {Root("arguments")}
        self.roots[kernel, scratch] = {Root("scratch")}
        size = -1
        while size != self._size():
            size = self._size()
            for name in sorted(self.seen):
                self._visit(functions[name])

    def _size(self) -> int:
        sets = (self.data, self.stored, self.returned, self.seen)
        return sum(map(len, sets)) + sum(map(len, self.roots.values()))

    # --- the fixed point

    def _visit(self, function: Function) -> None:
        for ref, text in function.values.items():
            self._value(function, ref, text)
        for text in function.effects:
            if text.startswith(("store", "call void @llvm.masked.")):
                value, pointer = _stored(text)
                if self._is_data(function, value):
                    for root in self._roots(function, pointer):
                        self.stored.add((root, _element(text)))
            elif text.startswith("ret ") and any(self._is_data(function, r) for r in _REF.findall(text)):
                self.returned.add(function.name)
            elif text.startswith("call"):
                self._call(function, text)

    def _value(self, function: Function, ref: str, text: str) -> None:
        key = function.name, ref
        opcode = text.split(" ", 1)[0]
        if opcode == "alloca":
            self.roots[key] = {Root("stack")}
            return
        if opcode == "load" and text.startswith("load ptr"):
            self.roots[key] = {self._slot(function, _REF.findall(text)[0])}
            return
        operands = _PHI.findall(text) if opcode == "phi" else _REF.findall(text)
        found = set().union(*(self._roots(function, operand) for operand in operands))
        if text.startswith(("getelementptr", "select", "phi")) and found:
            self.roots.setdefault(key, set()).update(found)
        if opcode == "load" or "@llvm.masked." in text:
            pointers = [self._roots(function, operand) for operand in operands]
            loaded = set().union(*pointers)
            if any(self._holds_data(root, _element(text)) for root in loaded):
                self.data.add(key)
            return
        if opcode in ("icmp", "fcmp") or self._is_checked(function, text) or self._is_clamped(function, text):
            return
        call = _CALL.match(text)
        if call and call.group(1) in self.functions:
            self._call(function, text)
            if call.group(1) in self.returned:
                self.data.add(key)
            return
        if text.startswith("select"):
            operands = operands[1:]  # the condition chooses only
        if re.match(r"(zext|uitofp) (<\d+ x )?i1", text):
            return
        if any(self._is_data(function, operand) for operand in operands):
            self.data.add(key)

    def _call(self, function: Function, text: str) -> None:
        call = _CALL.match(text)
        if call is None or call.group(1) not in self.functions:
            return
        callee = self.functions[call.group(1)]
        self.seen.add(callee.name)
        for (_, param), operand in zip(callee.params, _arguments(call.group(2))):
            key = callee.name, param
            if self._is_data(function, operand):
                self.data.add(key)
            roots = self._roots(function, operand)
            if roots:
                self.roots.setdefault(key, set()).update(roots)

    def _slot(self, function: Function, address: str) -> Root:
        """The parameter whose pointer lies at an address among the arguments."""
        text = function.values.get(address, "")
        return Root(f"param {int(text.rsplit(' ', 1)[1]) // 8 if text else 0}")

    def _holds_data(self, root: Root, element: str) -> bool:
        if root.is_private():
            return (root, element) in self.stored
        return root.name.startswith("param") and root not in self.constants

    def _is_data(self, function: Function, operand: str) -> bool:
        return (function.name, operand) in self.data

    def _roots(self, function: Function, operand: str) -> set[Root]:
        if operand.startswith("@") and operand[1:] not in self.functions:
            return {Root("table")}
        return self.roots.get((function.name, operand), set())

    # --- checks

    def _is_checked(self, function: Function, text: str) -> str | None:
        """The condition, if `text` puts 0 for an index that is not below an extent."""
        parts = re.match(r"select (?:<\d+ x i1>|i1) (%[\w.]+), \S+(?: x \w+>)? (\S+), .* (%[\w.]+)$", text)
        if parts is None or parts.group(2).rstrip(",") not in ("0", "zeroinitializer"):
            return None
        condition = function.values.get(parts.group(1), "")
        compared = re.match(r"icmp uge .*?(%[\w.]+), (.*)$", condition)
        if compared is None or compared.group(1) != parts.group(3):
            return None
        extent = _REF.findall(compared.group(2))
        return None if any(self._is_data(function, e) for e in extent) else parts.group(1)

    def _is_clamped(self, function: Function, text: str) -> bool:
        """Whether `text` is the least of a bound and the greatest of another one and an index, or such."""
        kinds = ("@llvm.smin.", "@llvm.smax.")
        for outer, inner in (kinds, kinds[::-1]):
            if outer not in text:
                continue
            operands = _REF.findall(text)[1:]
            for operand in operands:
                within = function.values.get(operand, "")
                others = [other for other in operands if other != operand]
                bounds = _REF.findall(within)[1:] if inner in within else None
                if bounds is None or any(self._is_data(function, other) for other in others):
                    continue
                if sum(self._is_data(function, bound) for bound in bounds) < 2:
                    return True
        return False

    # --- findings

    def unchecked(self) -> Iterator[str]:
        """The accesses to memory whose address depends on data."""
        for name in sorted(self.seen):
            function = self.functions[name]
            for text in (*function.values.values(), *function.effects):
                if _MEMORY.match(text):
                    for pointer in _pointers(text):
                        bad = self._bad_index(function, pointer, set())
                        if bad is not None:
                            yield f"{name}: {bad} in {text}"

    def _bad_index(self, function: Function, pointer: str, visited: set[str]) -> str | None:
        """An address computation with data on the way to `pointer`."""
        text = function.values.get(pointer, "")
        if pointer in visited or not text:
            return None
        visited.add(pointer)
        if text.startswith("getelementptr"):
            base, *indices = _REF.findall(text)
            if any(self._is_data(function, index) for index in indices):
                return text
            return self._bad_index(function, base, visited)
        if text.startswith(("select", "phi")):
            operands = _PHI.findall(text) if text.startswith("phi") else _REF.findall(text)[1:]
            found = (self._bad_index(function, operand, visited) for operand in operands)
            return next((bad for bad in found if bad is not None), None)
        return None

    def checks(self) -> list[tuple[Function, str]]:
        """The conditions of all checks: that an index is out of range."""
        found: dict[tuple[str, str], tuple[Function, str]] = {}
        for name in sorted(self.seen):
            function = self.functions[name]
            for text in function.values.values():
                condition = self._is_checked(function, text)
                if condition is not None:
                    found[name, condition] = function, condition
        return list(found.values())

    def unreported(self) -> Iterator[str]:
        """The checks whose failure reaches no report of a fault."""
        for function, condition in self.checks():
            if not _reaches_report(function, condition):
                yield f"{function.name}: {condition} = {function.values[condition]}"


def _reaches_report(function: Function, condition: str) -> bool:
    """Whether a branch on `condition`, or on what it is a part of, leads to a report."""
    waiting, seen = [condition], {condition}
    while waiting:
        ref = waiting.pop()
        for text in function.effects:
            branch = re.match(rf"br i1 {re.escape(ref)}, label %([\w.]+)", text)
            if branch and any("@dlc_report_fault" in line for line in function.blocks[branch.group(1)]):
                return True
        for other, text in function.values.items():
            combines = re.match(r"(and|or|select|phi|call i1 @llvm.vector.reduce)", text)
            if other not in seen and combines and ref in _REF.findall(text):
                seen.add(other)
                waiting.append(other)
    return False


def _arguments(text: str) -> list[str]:
    """The operands of a call, without their types."""
    return [part.rsplit(" ", 1)[-1] for part in re.split(r", (?![^<(]*[>)])", text)]


def _stored(text: str) -> tuple[str, str]:
    """What is stored, and where."""
    refs = _REF.findall(text)
    if text.startswith("store"):
        value = text.split(", ptr")[0].rsplit(" ", 1)[-1]
        return value, refs[-1]
    value = re.split(r", (?:ptr|<\d+ x ptr>)", text.partition("(")[2])[0].rsplit(" ", 1)[-1]
    return value, _pointers(text)[0]


def _pointers(text: str) -> list[str]:
    """The addresses that an instruction accesses."""
    return re.findall(r"(?:ptr|<\d+ x ptr>)(?: align \d+)? (%[\w.]+)", text)


def _element(text: str) -> str:
    """The element type that an instruction loads or stores."""
    body = text.partition("@llvm.masked.")[2] or text
    if body is not text:
        return re.match(r"\w+\.v\d+(\w+?)\.", body).group(1)  # type: ignore[union-attr]
    type_ = text.split(" ", 1)[1]
    vector = _ELEMENT.match(type_)
    name = vector.group(1) if vector else type_.split(",")[0].split(" ")[0]
    return {"float": "f32", "double": "f64", "half": "f16"}.get(name, name)

"""From a tree to an automaton, and running it on a text.

K. Thompson's construction (Programming Techniques: Regular expression search algorithm, 1968), run on the set
of states that are possible after each character; transitions that were met once are remembered.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from typing import TypeAlias

from dlc.ir.regex.charset import Charset
from dlc.ir.regex.syntax import Alternate, Assertion, Concat, PatternTooLarge, Repeat, Tree, parse

#: The most instructions of an automaton, which bound the work for one character of a text.
MOST_INSTRUCTIONS = 10_000
#: The longest pattern.
MOST_CHARACTERS = 100_000
#: The most remembered transitions.
_REMEMBERED = 20_000
_WORD = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")


@dataclasses.dataclass(frozen=True)
class _Read:
    """Take a character of the set and go on at `target`."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]
    target: int

    def takes(self, character: int) -> bool:
        """Whether the character is in the set."""
        at = bisect.bisect_right(self.firsts, character) - 1
        return at >= 0 and character <= self.lasts[at]


@dataclasses.dataclass(frozen=True)
class _Split:
    """Go on at any of `targets`."""

    targets: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Require:
    """Go on at `target` where the assertion holds."""

    assertion: Assertion
    target: int


_Instruction: TypeAlias = "_Read | _Split | _Require"
#: What stands beside a place of the text: (before, after), each None at the end, else the character.
_Place: TypeAlias = tuple["str | None", "str | None"]


@functools.lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Regex:
    """The automaton of a pattern; PatternError when it is none of RE2's, or when it is too large."""
    if len(pattern) > MOST_CHARACTERS:
        raise PatternTooLarge(f"the pattern has {len(pattern):,} characters, more than {MOST_CHARACTERS:,}")
    builder = _Builder()
    start = builder.add(parse(pattern), 0)
    return Regex(tuple(builder.instructions), start)


class _Builder:
    """Writes instructions from the end of the pattern to its start; instruction 0 accepts."""

    def __init__(self) -> None:
        self.instructions: list[_Instruction] = [_Split(())]

    def _emit(self, instruction: _Instruction) -> int:
        if len(self.instructions) >= MOST_INSTRUCTIONS:
            raise PatternTooLarge(f"the automaton has more than {MOST_INSTRUCTIONS:,} states")
        self.instructions.append(instruction)
        return len(self.instructions) - 1

    def add(self, tree: Tree, then: int) -> int:
        """Where to start in order to match `tree`, and then what starts at `then`."""
        match tree:
            case Assertion():
                return self._emit(_Require(tree, then))
            case Concat(parts):
                for part in reversed(parts):
                    then = self.add(part, then)
                return then
            case Alternate(choices):
                return self._emit(_Split(tuple(self.add(choice, then) for choice in choices)))
            case Repeat():
                return self._repeat(tree, then)
        return self._read(tree, then)

    def _read(self, characters: Charset, then: int) -> int:
        firsts, lasts = zip(*characters) if characters else ((), ())
        return self._emit(_Read(firsts, lasts, then))

    def _repeat(self, repeat: Repeat, then: int) -> int:
        if repeat.most is None:
            loop = self._emit(_Split(()))
            body = self.add(repeat.body, loop)
            self.instructions[loop] = _Split((body, then))
            then = loop
        else:
            end = then
            for _ in range(repeat.most - repeat.least):
                then = self._emit(_Split((self.add(repeat.body, then), end)))
        for _ in range(repeat.least):
            then = self.add(repeat.body, then)
        return then


class Regex:
    """An automaton. Several threads may use it at once."""

    def __init__(self, instructions: tuple[_Instruction, ...], start: int) -> None:
        self._instructions = instructions
        self._start = frozenset({start})
        self._looks = any(isinstance(instruction, _Require) for instruction in instructions)
        #: (states, what stands before, the character) -> states after it.
        self._steps: dict[tuple[frozenset[int], str | None, str | None], frozenset[int]] = {}

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        states, before = self._start, None
        for character in text:
            states = self._step(states, before if self._looks else "", character)
            if not states:
                return False
            before = character
        return 0 in self._closed(states, (before, None))

    def _step(self, states: frozenset[int], before: str | None, character: str) -> frozenset[int]:
        key = states, before, character
        found = self._steps.get(key)
        if found is None:
            point = ord(character)
            reads = (self._instructions[state] for state in self._closed(states, (before, character)))
            found = frozenset(read.target for read in reads if isinstance(read, _Read) and read.takes(point))
            if len(self._steps) >= _REMEMBERED:
                self._steps.clear()
            self._steps[key] = found
        return found

    def _closed(self, states: frozenset[int], place: _Place) -> set[int]:
        """The states that are reached at this place without taking a character."""
        reached = set(states)
        pending = list(states)
        while pending:
            match self._instructions[pending.pop()]:
                case _Split(targets):
                    new = [target for target in targets if target not in reached]
                case _Require(assertion, target):
                    new = [target] if target not in reached and _holds(assertion, place) else []
                case _:
                    continue
            reached.update(new)
            pending += new
        return reached


def _holds(assertion: Assertion, place: _Place) -> bool:
    before, after = place
    match assertion:
        case Assertion.BEGIN_TEXT:
            return before is None
        case Assertion.END_TEXT:
            return after is None
        case Assertion.BEGIN_LINE:
            return before is None or before == "\n"
        case Assertion.END_LINE:
            return after is None or after == "\n"
    boundary = (before in _WORD) != (after in _WORD)
    return boundary if assertion is Assertion.WORD else not boundary

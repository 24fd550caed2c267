"""Reading a pattern: RE2's syntax to a tree."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from dlc.ir.regex.charset import (
    ANY,
    DIGIT,
    LAST,
    POSIX,
    SPACE,
    WORD,
    Charset,
    category,
    charset,
    complement,
    folded,
    single,
)

#: The largest number of repetitions, of nested ones together, as in RE2.
MOST_REPETITIONS = 1000
#: The deepest nesting of groups.
MOST_NESTED = 200


class PatternError(Exception):
    """The pattern is not one of RE2's."""


class UnsupportedPattern(PatternError):
    """The pattern is RE2's, but uses what is not offered here."""


class PatternTooLarge(PatternError):
    """The pattern, or the automaton that it stands for, is beyond the limits."""


class Assertion(enum.Enum):
    """A condition on a place between two characters."""

    BEGIN_TEXT = "\\A"
    END_TEXT = "\\z"
    BEGIN_LINE = "(?m)^"
    END_LINE = "(?m)$"
    WORD = "\\b"
    NOT_WORD = "\\B"


@dataclasses.dataclass(frozen=True)
class Concat:
    """One part after the other; the empty text when there are none."""

    parts: tuple[Tree, ...]


@dataclasses.dataclass(frozen=True)
class Alternate:
    """Any of several."""

    choices: tuple[Tree, ...]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """`least` to `most` (None: any number) repetitions."""

    body: Tree
    least: int
    most: int | None


#: A set of ranges is a tree that matches one of its characters.
Tree: TypeAlias = "Charset | Assertion | Concat | Alternate | Repeat"

_DOT = complement(single(ord("\n")))
_LETTER_CLASSES = {"d": DIGIT, "s": SPACE, "w": WORD}
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_FLAGS = re.compile(r"([imsU]*)(?:-([imsU]+))?([:)])")
_NAME = re.compile(r"P?<([A-Za-z0-9_]+)>")
_COUNTS = re.compile(r"\{([0-9]{1,9})(,([0-9]{0,9}))?\}")
_HEX = re.compile(r"\{([0-9A-Fa-f]{1,8})\}|([0-9A-Fa-f]{2})")
_POSIX_NAME = re.compile(r"\[:(\^?)([a-z]*):\]")


@dataclasses.dataclass
class _Group:
    """An open group: finished choices, the parts of the current one, and the flags to return to."""

    flags: frozenset[str]
    choices: list[Tree] = dataclasses.field(default_factory=list)
    parts: list[Tree] = dataclasses.field(default_factory=list)
    #: Whether the last part may be repeated: it is there, and no repetition itself.
    repeatable: bool = False

    def tree(self) -> Tree:
        """What the group matches."""
        choices = [*self.choices, _concat(self.parts)]
        return choices[0] if len(choices) == 1 else Alternate(tuple(choices))


def _concat(parts: list[Tree]) -> Tree:
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def parse(pattern: str) -> Tree:
    """The tree of a pattern; PatternError with RE2's reason when it is none."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.flags: frozenset[str] = frozenset()
        self.groups = [_Group(self.flags)]

    def parse(self) -> Tree:
        while self.position < len(self.pattern):
            self._item()
        if len(self.groups) > 1:
            self._fail("missing )")
        return self.groups[0].tree()

    # --- the text

    def _fail(self, reason: str, part: str | None = None) -> NoReturn:
        raise PatternError(f"{reason}: {self.pattern if part is None else part}")

    def _next(self) -> str:
        """The next character, going past it."""
        character = self.pattern[self.position]
        self.position += 1
        return character

    def _accept(self, mark: str) -> bool:
        """Go past `mark` if it is next."""
        found = self.pattern.startswith(mark, self.position)
        self.position += len(mark) if found else 0
        return found

    def _match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        """Go past what `expression` matches here."""
        found = expression.match(self.pattern, self.position)
        if found is not None:
            self.position = found.end()
        return found

    # --- parts of a pattern

    def _add(self, tree: Tree) -> None:
        self.groups[-1].parts.append(tree)
        self.groups[-1].repeatable = True

    def _literal(self, character: int) -> None:
        self._add(self._folded(single(character)))

    def _folded(self, characters: Charset) -> Charset:
        return folded(characters) if "i" in self.flags else characters

    def _item(self) -> None:
        start = self.position
        character = self._next()
        match character:
            case "(":
                self._open(start)
            case ")":
                self._close()
            case "|":
                group = self.groups[-1]
                group.choices.append(_concat(group.parts))
                group.parts, group.repeatable = [], False
            case "*" | "+" | "?":
                self._repeat(start, 1 if character == "+" else 0, 1 if character == "?" else None)
            case "{" if (counts := _COUNTS.match(self.pattern, start)) is not None:
                self.position = counts.end()
                least = int(counts[1])
                most = least if counts[2] is None else int(counts[3]) if counts[3] else None
                if max(least, most or 0) > MOST_REPETITIONS or (most is not None and most < least):
                    self._fail("invalid repetition size", counts[0])
                self._repeat(start, least, most)
            case "^":
                self._add(Assertion.BEGIN_LINE if "m" in self.flags else Assertion.BEGIN_TEXT)
            case "$":
                self._add(Assertion.END_LINE if "m" in self.flags else Assertion.END_TEXT)
            case ".":
                self._add(ANY if "s" in self.flags else _DOT)
            case "[":
                self._add(self._class(start))
            case "\\":
                self._escape(start)
            case _:
                self._literal(ord(character))

    def _open(self, start: int) -> None:
        """A group, or a change of flags."""
        outside = self.flags
        if self._accept("?"):
            named = self._match(_NAME)
            if named is None:
                found = self._match(_FLAGS)
                if found is None:
                    end = min(self.position + 1, len(self.pattern))
                    self._fail("invalid perl operator", self.pattern[start:end])
                self.flags = (self.flags | set(found[1])) - set(found[2] or "")
                if found[3] == ")":
                    return
        if len(self.groups) > MOST_NESTED:
            raise PatternTooLarge(f"groups are nested more than {MOST_NESTED} deep")
        self.groups.append(_Group(outside))

    def _close(self) -> None:
        if len(self.groups) == 1:
            self._fail("unexpected )")
        group = self.groups.pop()
        self.flags = group.flags
        self._add(group.tree())

    def _repeat(self, start: int, least: int, most: int | None) -> None:
        self._accept("?")  # not greedy
        group, operator = self.groups[-1], self.pattern[start : self.position]
        if not group.parts:
            self._fail("no argument for repetition operator", operator)
        if not group.repeatable:
            self._fail("bad repetition operator", operator)
        repeat = Repeat(group.parts.pop(), least, most)
        if max(least, most or 0) > 1 and _repetitions(repeat) > MOST_REPETITIONS:
            self._fail("invalid repetition size", operator)
        group.parts.append(repeat)
        group.repeatable = False

    def _escape(self, start: int) -> None:
        """What a backslash begins, outside of a class."""
        if self._accept("Q"):
            end = self.pattern.find("\\E", self.position)
            quoted = self.pattern[self.position : None if end < 0 else end]
            self.position = len(self.pattern) if end < 0 else end + 2
            for character in quoted:
                self._literal(ord(character))
            return
        marks = {"A": Assertion.BEGIN_TEXT, "z": Assertion.END_TEXT}
        marks |= {"b": Assertion.WORD, "B": Assertion.NOT_WORD}
        for letter, assertion in marks.items():
            if self._accept(letter):
                self._add(assertion)
                return
        if self._accept("C"):
            raise UnsupportedPattern("a byte (\\C) is not offered")
        characters = self._escaped_class()
        self._add(characters if characters is not None else self._folded(single(self._escaped(start))))

    def _escaped_class(self) -> Charset | None:
        """The class that a letter after a backslash stands for, if it does: digits, categories and so on."""
        for letter, characters in _LETTER_CLASSES.items():
            if self._accept(letter):
                return characters
            if self._accept(letter.upper()):
                return complement(characters)
        if self._accept("p"):
            return self._category(False)
        return self._category(True) if self._accept("P") else None

    def _category(self, negated: bool) -> Charset:
        r"""The characters of a category: the rest of ``\pL`` or ``\p{^Lu}``."""
        if self.position == len(self.pattern):
            self._fail("invalid character class range")
        name = self._next()
        if name == "{":
            name, end, _ = self.pattern[self.position :].partition("}")
            if not end:
                self._fail("invalid character class range")
            self.position += len(name) + 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        found = category(name)
        if found is None:
            raise UnsupportedPattern(f"the characters \\p{{{name}}} are not known, only general categories")
        found = self._folded(found)
        return complement(found) if negated else found

    def _escaped(self, start: int) -> int:
        """The character that follows a backslash, or is described there."""
        if self.position == len(self.pattern):
            self._fail("trailing \\", "\\")
        letter = self._next()
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter == "x":
            found = self._match(_HEX)
            number = -1 if found is None else int(found[1] or found[2], 16)
            if 0 <= number <= LAST:
                return number
        elif letter in "01234567":
            digits = re.compile("[0-7]{0,2}").match(self.pattern, self.position)
            text = "" if digits is None else digits[0]
            if letter == "0" or text:
                self.position += len(text)
                return int(letter + text, 8)
        elif letter.isascii() and not letter.isalnum():
            return ord(letter)
        self._fail("invalid escape sequence", self.pattern[start : self.position])

    # --- classes

    def _class(self, start: int) -> Charset:
        """The rest of a class, up to its ``]``."""
        negated = self._accept("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._accept("]"):
            if self.position == len(self.pattern):
                self._fail("missing ]", self.pattern[start:])
            first = False
            ranges += self._class_item()
        characters = self._folded(charset(ranges))
        return complement(characters) if negated else characters

    def _class_item(self) -> Charset:
        """One entry of a class: a character, a range, or another class."""
        start = self.position
        if self.pattern.startswith("[:", start) and ":]" in self.pattern[start + 2 :]:
            named = self._match(_POSIX_NAME)
            if named is None or named[2] not in POSIX:
                end = self.pattern.index(":]", start + 2) + 2
                self._fail("invalid character class range", self.pattern[start:end])
            characters = POSIX[named[2]]
            return complement(characters) if named[1] else characters
        if self._accept("\\"):
            found = self._escaped_class()
            if found is not None:
                return found
            low = self._escaped(start)
        else:
            low = ord(self._next())
        if not self._is_range():
            return single(low)
        self.position += 1
        middle = self.position
        high = self._escaped(middle) if self._accept("\\") else ord(self._next())
        if high < low:
            self._fail("invalid character class range", self.pattern[start : self.position])
        return ((low, high),)

    def _is_range(self) -> bool:
        """Whether a ``-`` with another end of a range follows."""
        rest = self.pattern[self.position : self.position + 2]
        return len(rest) == 2 and rest[0] == "-" and rest[1] != "]"


def _repetitions(tree: Tree) -> int:
    """How often the parts inside of `tree` are repeated at most, by nested counts together."""
    measure: Callable[[Tree], int] = _repetitions
    match tree:
        case Repeat(body, least, most):
            return max(least, most or 0, 1) * measure(body)
        case Concat(parts) | Alternate(parts):
            return max(map(measure, parts), default=1)
    return 1

"""Sets of characters as ranges of code points: classes, Unicode categories, folding of case."""

from __future__ import annotations

import functools
import itertools
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TypeAlias

#: Ranges (first, last) in ascending order that neither touch nor overlap.
Charset: TypeAlias = tuple[tuple[int, int], ...]

LAST = sys.maxunicode
ANY: Charset = ((0, LAST),)
_CATEGORIES = frozenset(
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No "
    "P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs".split()
)


def charset(ranges: Iterable[tuple[int, int]]) -> Charset:
    """The set of all characters in `ranges`, which may overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def single(character: int) -> Charset:
    """The set of one character."""
    return ((character, character),)


def complement(characters: Charset) -> Charset:
    """All characters that are not in the set."""
    bounds = [-1, *itertools.chain.from_iterable(characters), LAST + 1]
    gaps = zip(bounds[::2], bounds[1::2])
    return tuple((before + 1, after - 1) for before, after in gaps if before + 1 < after)


def _ascii(text: str) -> Charset:
    """The set of ranges written one after the other: "azAZ__" is a to z, A to Z and _."""
    return charset((ord(first), ord(last)) for first, last in zip(text[::2], text[1::2]))


DIGIT = _ascii("09")
WORD = _ascii("09AZaz__")
SPACE = _ascii("\t\n\f\r  ")

#: POSIX classes, ASCII only as in RE2.
POSIX: dict[str, Charset] = {
    "alnum": _ascii("09AZaz"),
    "alpha": _ascii("AZaz"),
    "ascii": _ascii("\x00\x7f"),
    "blank": _ascii("\t\t  "),
    "cntrl": _ascii("\x00\x1f\x7f\x7f"),
    "digit": DIGIT,
    "graph": _ascii("!~"),
    "lower": _ascii("az"),
    "print": _ascii(" ~"),
    "punct": _ascii("!/:@[`{~"),
    "space": _ascii("\t\r  "),
    "upper": _ascii("AZ"),
    "word": WORD,
    "xdigit": _ascii("09AFaf"),
}


def category(name: str) -> Charset | None:
    """The characters of a Unicode general category such as "Lu" or "L"; None when there is none so called."""
    if name == "Any":
        return ANY
    if name not in _CATEGORIES:
        return None
    ranges = _category_ranges()
    return charset(itertools.chain.from_iterable(ranges[key] for key in ranges if key.startswith(name)))


@functools.cache
def _category_ranges() -> dict[str, list[tuple[int, int]]]:
    """The ranges of each category of two letters; code points that are not assigned (Cn) have none."""
    found: dict[str, list[tuple[int, int]]] = {}
    runs = itertools.groupby(range(LAST + 1), lambda point: unicodedata.category(chr(point)))
    for name, run in runs:
        points = list(run)
        if name != "Cn":
            found.setdefault(name, []).append((points[0], points[-1]))
    return found


def folded(characters: Charset) -> Charset:
    """The set with all characters that differ from one of it in case only."""
    orbits = _orbits()
    extra: list[int] = []
    for first, last in characters:
        inside: Iterator[int] | range = range(first, last + 1)
        if last - first > len(orbits):
            inside = (point for point in orbits if first <= point <= last)
        for point in inside:
            extra += orbits.get(point, ())
    return charset([*characters, *((point, point) for point in extra)])


@functools.cache
def _orbits() -> dict[int, tuple[int, ...]]:
    """For each character that has others differing in case only: all of these, itself included."""
    groups: dict[str, list[int]] = {}
    for point in range(LAST + 1):
        character = chr(point)
        if character.isalpha() or character.lower() != character or character.upper() != character:
            groups.setdefault(_fold(character), []).append(point)
    return {point: tuple(group) for group in groups.values() if len(group) > 1 for point in group}


def _fold(character: str) -> str:
    """Simple case folding, which keeps one character one character (Unicode's CaseFolding.txt, C and S)."""
    for mapped in (character.casefold(), character.lower()):
        if len(mapped) == 1:
            return mapped
    return character

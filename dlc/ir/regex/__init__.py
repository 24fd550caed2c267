"""Regular expressions in RE2's syntax, matched in time linear in the text, whatever the pattern.

`parse` reads a pattern, `compile_pattern` makes an automaton of bounded size, which is run on sets of states:
nothing is ever tried twice at one place of the text. Python's own `re` backtracks, which costs exponential
time for some patterns, and a pattern is part of a model that may come from anyone.

The syntax is that of https://github.com/google/re2/wiki/Syntax. Whether the whole of a text matches does not
depend on greediness, which is therefore read and forgotten. Not offered: the names of scripts in ``\\p{...}``
(only general categories are known here) and ``\\C``, a byte.
"""

from __future__ import annotations

from dlc.ir.regex.automaton import Regex as Regex, compile_pattern as compile_pattern
from dlc.ir.regex.syntax import (
    PatternError as PatternError,
    PatternTooLarge as PatternTooLarge,
    UnsupportedPattern as UnsupportedPattern,
    parse as parse,
)

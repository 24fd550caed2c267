"""The error classes: rendering, pickling, standard bases, and codes that are documented and stable."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

import dlc
from dlc import errors
from dlc.errors import CODES, Error, Finding, UnsupportedError, printable

PACKAGE = Path(dlc.__file__).parent


def all_classes(base: type[Error] = Error) -> list[type[Error]]:
    own = [cls for cls in base.__subclasses__() if cls.__module__ == "dlc.errors"]
    return [base] + [found for cls in own for found in all_classes(cls)]


def finding(node: str = "n", reason: str = "group of 3 dims") -> Finding:
    dtypes, shapes = ("float32", "-"), ("[batch, 3]", "-")
    return Finding(node, "Conv", "", 11, dtypes, shapes, reason, "export with opset 13")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Error("bad"), "bad"),
        (Error("bad", node="conv_1"), "bad (node 'conv_1')"),
        (Error("bad", node="conv_1", hint="do this"), "bad (node 'conv_1'); do this"),
        (Error("bad", node="a\n\x1b[31m"), "bad (node 'a\\n\\x1b[31m')"),
    ],
)
def test_rendering(error: Error, text: str) -> None:
    assert str(error) == text


def test_unsupported_lists_every_finding_up_to_a_bound() -> None:
    few = UnsupportedError("2 nodes are not supported", findings=[finding("a"), finding("b")])
    lines = str(few).splitlines()
    assert lines[1] == "  Conv-11(float32[batch, 3], --) at node 'a': group of 3 dims; export with opset 13"
    assert len(lines) == 3 and [found.node for found in few.findings] == ["a", "b"]
    many = UnsupportedError("many", findings=[finding(str(index)) for index in range(25)])
    assert str(many).splitlines()[-1] == "  and 5 more"
    assert len(many.to_dict()["findings"]) == 25


@pytest.mark.parametrize("cls", all_classes())
def test_every_class_survives_pickling_and_has_a_documented_code(cls: type[Error]) -> None:
    original = cls("what", node="where", hint="how")
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is cls and copy.to_dict() == original.to_dict() and str(copy) == str(original)
    assert original.code in CODES
    assert getattr(dlc, cls.__name__) is cls


def test_findings_survive_pickling() -> None:
    original = UnsupportedError("m", findings=[finding()])
    assert pickle.loads(pickle.dumps(original)).findings == (finding(),)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (errors.InputError, (ValueError, TypeError)),
        (errors.ShapeError, (errors.InputError,)),
        (errors.IndexFault, (errors.InputError, IndexError)),
        (errors.ExternalDataError, (errors.ModelError,)),
        (errors.ResourceError, (MemoryError,)),
    ],
)
def test_standard_bases(cls: type[Error], bases: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(cls, base) for base in bases)


def test_internal_errors_say_how_to_report() -> None:
    assert "dlc doctor" in str(errors.InternalError("x"))
    assert errors.InternalError("x", hint="run this").hint == "run this"


def test_codes_used_in_the_source_are_documented() -> None:
    used = {
        literal.value
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "code"
        for literal in ast.walk(keyword.value)
        if isinstance(literal, ast.Constant) and isinstance(literal.value, str)
    }
    assert used <= set(CODES), used - set(CODES)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain näme", "plain näme"),
        ("tab\tnew\nline", "tab\\tnew\\nline"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\u2028\x85\ud800", "\\u2028\\x85\\ud800"),
    ],
)
def test_printable_escapes_what_a_terminal_interprets(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_printable_is_bounded() -> None:
    assert printable("x" * 1000) == "x" * 197 + "..."

"""The verifier: each rule is broken once and must be named."""

from __future__ import annotations

import dataclasses

import pytest

from dlc.errors import InternalError
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Access, Axis, Kernel, Map, Param, Store
from dlc.lowering.parse import parse
from dlc.lowering.verify import data_dependent, verify_kernel, violations

HEADER = """
  symbol n
  symbol m
  read x: f32[n, 8]
  read k: i64[n]
  read h: f16[n, 8]
  read q: u8[n, 8]
  write y: f32[n, 8]
  update z: f32[n, 8]
  axis i: n
  axis j: 8
  axis r: 8 reduce
  axis t: n sequential
"""


def problems(*stages: str, header: str = HEADER) -> str:
    """What is wrong with the kernel of these stages, apart from what they leave unused."""
    text = "kernel k {" + header + "".join(f"  {stage}\n" for stage in stages) + "}\n"
    return "\n".join(p for p in violations(parse(text)) if "not used" not in p and "not stored" not in p)


SOUND = [
    "for i, j: y[i, j] = x[i, j]",
    "for i: s: f32 = sum over r of x[i, r]",
    "for i: s: f32 = sum over j of x[i, j]",
    "for i, j: y[i, j] = x[{k[i]}, j]",
    "for i, j in order: y[{k[i]}, j] = x[i, j]",
    "for i, j: z[{k[i]}, j] += x[i, j]",
    "for i, j: z[i, j] = z[i, j] + x[i, j]",
    "for i: (v: f32, w: i64) = argmin_last over j of (x[i, j], iota(j))",
]


@pytest.mark.parametrize("stage", SOUND)
def test_sound_stages(stage: str) -> None:
    assert problems(stage) == ""


def test_a_sound_recurrence() -> None:
    lines = [
        "recur t {",
        "for j: state s: f32 = 0.0",
        "for j: y[t, j] = s[j]",
        "next s = s[j] + x[t, j]",
        "}",
    ]
    assert problems(*lines) == ""


BROKEN = [
    ("for i, j: y[i, j] = x[i, j + 1]", "index j + 1 of axis 1 of x is not proved to be in [0, 8)"),
    ("for i, j: y[i, j] = x[i - 1, j]", "index i - 1 of axis 0 of x is not proved"),
    ("for i, j: y[i, j + i] = x[i, j]", "index i + j of axis 1 of y is not proved"),
    ("for i, j: y[i, j] = x[i, j + 1 | 0 <= j < 7 | 0.0:f64]", "gives f32, or else f64"),
    ("for i, j: y[i, j] = x[i, j | 0 <= j < 7]", "needs a mask and another value"),
    ("for i, j: y[i, j] = x[i, j | | 0.0]", "needs a mask and another value"),
    ("for i, j: y[i, j] = x[i, r]", "axis r is used where it is not walked"),
    ("for i: y[i, j] = x[i, 0]", "axis j is used where it is not walked"),
    ("for i, i: y[i, i] = x[i, 0]", "axis i is walked twice"),
    ("for i, r: y[i, r] = x[i, r]", "axis r is only for reducing"),
    ("for i, j: y[i, 0] = x[i, j]", "two points may store to one element of y"),
    ("for i, j: y[{k[i]}, j] = x[i, j]", "two points may store to one element of y"),
    ("for i, j: y[i, j] += x[i, j]", "y is read, but declared as written"),
    ("for i, j: x[i, j] = y[i, j]", "x is stored, but declared as read"),
    ("for i, j in order: z[i, j] += x[i, j]", "a combining store counts every point"),
    ("for i, j: z[i, j] = z[i, 7 - j]", "a point reads an element of z that another point stores"),
    ("for i, j: y[i, j] = h[i, j]", "y holds f32, not f16"),
    ("for i, j: y[i, j] = f32(h[i, j] + h[i, j])", "there is no add of f16"),
    ("for i, j: y[i, j] = x[i, j] + f32(h[i, j]) * 1.0:f64", "mul gives f32 from f32 and f64"),
    ("for i, j: y[i, j] = exp(k[i])", "there is no exp of i64"),
    ("for i, j: y[i, j] = not(x[i, j])", "not is for bool and integers"),
    ("for i, j: y[i, j] = and(x[i, j], x[i, j])", "there is no and of f32"),
    ("for i, j: y[i, j] = shift_left(x[i, j], x[i, j])", "there is no shift_left of f32"),
    ("for i, j: y[i, j] = select(x[i, j], 1.0, 2.0)", "select chooses by f32"),
    ("for i, j: y[i, j] = select(x[i, j] < 1.0, 1.0, 2)", "select gives f32 from f32 and i64"),
    ("for i, j: y[i, j] = select(x[i, j] < k[i], 1.0, 2.0)", "lt compares f32 with i64"),
    (
        "for i, j: y[i, j] = select((x[i, j] < 1.0) < (x[i, j] < 2.0), 1.0, 2.0)",
        "bool elements are not compared",
    ),
    ("for i, j: y[i, j] = iota(i):f32", "iota gives integers, not f32"),
    ("for i, j: y[i, j] = 1:f32", "the constant 1 is no f32"),
    ("for i, j: y[i, j] = f32.bits(k[i])", "are of different width"),
    ("for i, j: y[i, j] = x[{i32(k[i])}, j]", "an index into x is i32, not i64"),
    ("for i: s: f32 = and over j of x[i, j]", "there is no and of f32"),
    ("for i: s: f16 = sum over j of h[i, j]", "there is no sum of f16"),
    ("for i: s: f64 = sum over j of x[i, j]", "s holds f64, not f32"),
    ("for i: (a: f32, b: f32) = sum over j of (x[i, j], x[i, j])", "sum is of 1 values"),
    ("for i: (a: f32, b: f32) = argmax over j of (x[i, j], x[i, j])", "takes an index of integers"),
    ("for i: s: f64 = x[i, 0]", "s holds f64, not f32"),
    ("routine sort(x, y)", "there is no routine sort"),
    ("routine top_k(x, y, y; axis=1)", "top_k takes the options axis, k, largest, sorted"),
    ("routine top_k(x, y; axis=1, k=3, largest=true, sorted=true)", "top_k takes x, values, indices"),
    (
        "routine top_k(y, x, y; axis=1, k=3, largest=true, sorted=true)",
        "y is write, against its role in top_k",
    ),
]


@pytest.mark.parametrize(("stage", "problem"), BROKEN, ids=lambda c: str(c)[:60])
def test_broken_stages(stage: str, problem: str) -> None:
    assert problem in problems(stage)


PAIRS = [
    (("for i: s: f32 = x[i, 0]", "for i, j: y[i, j] = s[j]"), "index j of axis 0 of s is not proved"),
    (("for i, j: y[i, j] = 0.0", "for i, j: y[i, j] = x[i, j]"), "two stores may hit one element of y"),
    (("for i, j: z[i, j] = 0.0", "for i, j in order: z[{k[i]}, j] = x[i, j]"), ""),
]


@pytest.mark.parametrize(("stages", "problem"), PAIRS)
def test_pairs_of_stages(stages: tuple[str, str], problem: str) -> None:
    found = problems(*stages)
    assert (problem in found) if problem else not found


CONTRACTIONS = [
    ("x[i, r], q[j, r] with rows(i) columns(j)", "cannot take u8"),
    ("x[i, r], x[j, r] with rows(i)", "the axes of s are not those of the roles"),
    ("x[i, r], x[0, j] with rows(i) columns(j)", "axis r does not index the right operand"),
    ("x[i, r], x[i, r] with rows(i) columns(j)", "axis i is used where it is not walked"),
    ("x[i, r], x[0, r] with rows(i) columns(j)", "axis j does not index the right operand"),
    ("x[i, r], x[j, r] with rows(i) columns(j) window(j, r, 1, 1, 0)", "against their roles"),
    ("x[i, r], x[0, r + j - j] with rows(i, j) window(i, r, 1, 1, 0)", "otherwise than by"),
]


@pytest.mark.parametrize(("rest", "problem"), CONTRACTIONS)
def test_roles_of_contractions(rest: str, problem: str) -> None:
    assert problem in problems(f"for i, j: s: f32 = contract over r of {rest}")


def test_windows_say_where_the_left_operand_is_read() -> None:
    header = """
  read x: f32[1, 1, 12]
  read w: f32[4, 1, 3]
  axis p: 10
  axis o: 4
  axis c: 1 reduce
  axis s: 3 reduce
"""
    stage = "for o, p: y: f32 = contract over c, s of {}, w[o, c, s] with rows(p) columns(o) window(p, s, {})"
    assert problems(stage.format("x[0, c, p + s]", "1, 1, 0"), header=header) == ""
    assert (
        problems(stage.format("x[0, c, p + s - 1 | 0 <= p + s - 1 < 12 | 0.0]", "1, 1, 1"), header=header)
        == ""
    )
    wrong = problems(stage.format("x[0, c, p + s]", "1, 1, 1"), header=header)
    assert "is read at p + s, but its window is at p + s - 1" in wrong
    assert "otherwise than by" in problems(stage.format("x[0, c, p + s]", "1, 2, 0"), header=header)


RECURRENCES = [
    (["for j: y[t, j] = s[j]", "next s = s[j] + x[t, j]"], ""),
    (["for j, t: y[t, j] = s[j]", "next s = s[j]"], "axis t is walked twice"),
    (["for j: y[0, j] = s[j]", "next s = s[j]"], "two points may store to one element of y"),
    (["next s = x[t, j + 1]"], "in the next s of"),
]


@pytest.mark.parametrize(("body", "problem"), RECURRENCES)
def test_recurrences(body: list[str], problem: str) -> None:
    found = problems("recur t {", "for j: state s: f32 = 0.0", *body, "}")
    assert (problem in found) if problem else not found


def test_a_recurrence_runs_along_a_sequential_axis() -> None:
    assert "is not sequential" in problems("recur i {", "for j: state s: f32 = 0.0", "next s = s[j]", "}")


def test_what_a_recurrence_defines_is_not_seen_after_it() -> None:
    kernel = parse(
        "kernel k {"
        + HEADER
        + "recur t {\nfor j: state s: f32 = 0.0\nfor j: a: f32 = s[j]\nnext s = a[j]\n}\n"
        "for j: b: f32 = s[j]\n}\n"
    )
    late = e.Read(DType.F32, "a", (Symbol("j", 0, 7),))
    (recurrence, after) = kernel.body
    assert isinstance(after, Map)
    broken = dataclasses.replace(kernel, body=(recurrence, dataclasses.replace(after, value=late)))
    assert "local a is read before it is defined" in "\n".join(violations(broken))


def test_names_stand_for_one_thing() -> None:
    x = Param("x", TensorType(DType.F32, (8,)), Access.READ)
    y = Param("y", TensorType(DType.F32, (8,)), Access.WRITE)
    index = Symbol("i", 0, 7)
    load = e.Load(DType.F32, "x", (index,))
    store = Store("y", ("i",), (index,), load)
    sound = Kernel("k", (x, y), (Axis("i", 8),), (store,))
    verify_kernel(sound)
    twice = dataclasses.replace(sound, params=(x, y, x))
    assert "the name x stands for two things" in "\n".join(violations(twice))
    other = dataclasses.replace(sound, axes=(Axis("i", 9),))
    assert "is not the axis of that name" in "\n".join(violations(other))
    unused = dataclasses.replace(sound, params=(x, y, dataclasses.replace(x, name="z")))
    assert "z is not used" in "\n".join(violations(unused))
    missing = dataclasses.replace(sound, params=(y,))
    assert "there is no parameter x" in "\n".join(violations(missing))


LAYOUTS = [
    ("<0.1.1b16 pad(undefined)>", ""),
    ("<0.1.1b16 halo(0, 1, 0, zero) pad(undefined)>", ""),
    ("<0.0 pad(undefined)>", "does not hold each axis once"),
    ("<0.1.1b16.1b4 pad(undefined)>", "does not hold each axis once"),
    ("<0.1.1b1 pad(undefined)>", "blocks of less than 2"),
    ("<0.1 halo(0, 1, 0, zero) halo(0, 2, 0, zero) pad(zero)>", "a halo of no axis, or two of one"),
    ("<0.1 halo(0, -1, 0, zero) pad(zero)>", "negative halo"),
    ("<0.1.1b16 halo(1, 1, 0, zero) pad(zero)>", "halo of a blocked axis"),
    (" strides (8)", "1 strides for 2 axes"),
]


@pytest.mark.parametrize(("layout", "problem"), LAYOUTS)
def test_layouts(layout: str, problem: str) -> None:
    found = problems(
        "for i, j: y[i, j] = x[i, j]", header=HEADER.replace("x: f32[n, 8]", f"x: f32[n, 8]{layout}")
    )
    assert (problem in found) if problem else not found


def test_a_halo_may_be_read_if_it_holds_something() -> None:
    layout = "<0.1 halo(0, 1, 2, zero) pad(undefined)>"
    header = HEADER.replace("x: f32[n, 8]", f"x: f32[n, 8]{layout}")
    assert problems("for i, j: y[i, j] = x[i - 1, j] + x[i + 2, j]", header=header) == ""
    assert "[-1, n + 2)" in problems("for i, j: y[i, j] = x[i + 3, j]", header=header)
    undefined = header.replace("zero) pad", "undefined) pad")
    assert "is not proved to be in [0, n)" in problems("for i, j: y[i, j] = x[i - 1, j]", header=undefined)


def test_guards_help_proofs() -> None:
    kernel = parse(
        "kernel k {\n symbol n\n symbol m\n read x: f32[m]\n write y: f32[n]\n"
        "axis i: n\n for i: y[i] = x[i]\n}"
    )
    with pytest.raises(InternalError, match="index i of axis 0 of x"):
        verify_kernel(kernel)
    verify_kernel(kernel, [Guard(Relation.EQ, Symbol("n"), Symbol("m"), "extents differ")])


def test_the_error_shows_kernel_and_origin() -> None:
    declared = 'origin "node"\n read x: f32[4]\n write y: f32[8]\n axis i: 8\n'
    text = "kernel k {\n" + declared + " for i: y[i] = x[i]\n}"
    with pytest.raises(InternalError, match=r"kernel k is not sound") as caught:
        verify_kernel(parse(text))
    assert "for i: y[i] = x[i]" in str(caught.value) and caught.value.node == "node"


def test_accesses_by_data() -> None:
    kernel = parse(
        "kernel k {\n read x: f32[4]\n read k: i64[8]\n write y: f32[8]\n"
        "axis i: 8\n for i: y[i] = x[{k[i]}]\n}"
    )
    verify_kernel(kernel)
    assert data_dependent(kernel) == ("x",)

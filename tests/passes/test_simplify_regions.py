# ruff: noqa: E501 - the text of operators is long
"""Branches and loops lose what is known, never read or never changed."""
from __future__ import annotations

import numpy as np
import pytest

from dlc.passes.simplify_regions import SimplifyRegions
from tests.helpers.passes import check_pass, check_unchanged

IF_ON_A_CONSTANT = """
    symbol n = shape(%x, 0)
    input %x: f32[n]
    %c = constant bool[] [VALUE]
    %y = If(types=(f32[n],))(%c, %x) : f32[n] @ "choice" {
      graph yes {
        symbol n
        input %v: f32[n]
        %x = Unary(fn="exp")(%v) : f32[n] @ "choice/exp"
        %r = Binary(fn="mul")(%x, %v) : f32[n] @ "choice/both"
        output r = %r
      }
      graph no {
        symbol n
        input %v: f32[n]
        output r = %v
      }
    }
    %z = Unary(fn="neg")(%y) : f32[n]
    output z = %z
"""


def test_the_way_of_a_constant_condition_stands_in_place_of_the_if() -> None:
    check_pass(SimplifyRegions(), IF_ON_A_CONSTANT.replace("VALUE", "true"), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %x.1 = Unary(fn="exp")(%x) : f32[n] @ "choice/exp"
        %r = Binary(fn="mul")(%x.1, %x) : f32[n] @ "choice/both"
        %z = Unary(fn="neg")(%r) : f32[n]
        output z = %z
    """)
    check_pass(SimplifyRegions(), IF_ON_A_CONSTANT.replace("VALUE", "false"), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %z = Unary(fn="neg")(%x) : f32[n]
        output z = %z
    """)


def test_an_if_stays_where_the_way_knows_more_of_the_extents() -> None:
    """What follows was inferred from less."""
    check_unchanged(SimplifyRegions(), """
        symbol m = extent(%y, 0)
        input %x: f32[3]
        %c = constant bool[] [true]
        %y = If(types=(f32[m],))(%c, %x) : f32[m] {
          graph yes {
            input %v: f32[3]
            %r = Concat(axis=0)(%v, %v) : f32[6]
            output r = %r
          }
          graph no {
            input %v: f32[3]
            output r = %v
          }
        }
        %z = Unary(fn="neg")(%y) : f32[m]
        output z = %z
    """)


def test_symbols_and_guards_of_an_inlined_way_become_the_graphs() -> None:
    check_pass(SimplifyRegions(), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        input %k: i64[1]
        %c = constant bool[] [true]
        %y = If(types=(f32[4],))(%c, %x, %k) : f32[4] @ "choice" {
          graph yes {
            symbol n
            symbol start: .. = element(%i, 0)
            guard 0 <= start, "the start is negative", "slice"
            guard start + 4 <= n, "the slice leaves the operand", "slice"
            input %v: f32[n]
            input %j: i64[1]
            %i = Unary(fn="abs")(%j) : i64[1]
            %r = Slice(starts=(start,), extents=(4,), steps=(1,))(%v) : f32[4]
            output r = %r
          }
          graph no {
            symbol n
            input %v: f32[n]
            input %j: i64[1]
            %zero = constant f32[] [0.0]
            %r = Expand(shape=(4,))(%zero) : f32[4]
            output r = %r
          }
        }
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        symbol start: .. = element(%i, 0)
        guard 0 <= start, "the start is negative", "slice"
        guard start + 4 <= n, "the slice leaves the operand", "slice"
        input %x: f32[n]
        input %k: i64[1]
        %i = Unary(fn="abs")(%k) : i64[1]
        %r = Slice(starts=(start,), extents=(4,), steps=(1,))(%x) : f32[4]
        output y = %r
    """, {"k": np.array([-1])}, {"n": 7})


def test_results_that_nobody_reads_go_with_what_only_they_need() -> None:
    check_pass(SimplifyRegions(), """
        symbol n = shape(%x, 0)
        symbol m = extent(%unread, 0)
        input %x: f32[n]
        input %w: f32[n]
        input %c: bool[]
        %unread, %y = If(types=(f32[m], f32[n]))(%c, %w, %x) : f32[m], f32[n] {
          graph yes {
            symbol n
            input %w: f32[n]
            input %v: f32[n]
            %a = Concat(axis=0)(%w, %w) : f32[2*n]
            %b = Unary(fn="exp")(%v) : f32[n]
            output a = %a
            output b = %b
          }
          graph no {
            symbol n
            input %w: f32[n]
            input %v: f32[n]
            output a = %w
            output b = %v
          }
        }
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        input %w: f32[n]
        input %c: bool[]
        %y = If(types=(f32[n],))(%c, %x) : f32[n] {
          graph yes {
            symbol n
            input %v: f32[n]
            %b = Unary(fn="exp")(%v) : f32[n]
            output b = %b
          }
          graph no {
            symbol n
            input %v: f32[n]
            output b = %v
          }
        }
        output y = %y
    """)


def test_a_result_that_both_ways_take_from_around_needs_no_branch() -> None:
    check_pass(SimplifyRegions(), """
        input %x: f32[3]
        input %c: bool[]
        %a, %b = If(types=(f32[3], f32[3]))(%c, %x) : f32[3], f32[3] {
          graph yes {
            input %v: f32[3]
            %r = Unary(fn="exp")(%v) : f32[3]
            output a = %v
            output b = %r
          }
          graph no {
            input %v: f32[3]
            output a = %v
            output b = %v
          }
        }
        %y = Binary(fn="add")(%a, %b) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        input %c: bool[]
        %b = If(types=(f32[3],))(%c, %x) : f32[3] {
          graph yes {
            input %v: f32[3]
            %r = Unary(fn="exp")(%v) : f32[3]
            output b = %r
          }
          graph no {
            input %v: f32[3]
            output b = %v
          }
        }
        %y = Binary(fn="add")(%x, %b) : f32[3]
        output y = %y
    """)


LOOP = """
    symbol n = shape(%x, 0)
    symbol trip: .. = element(%trip, 0)
    symbol t = extent(%path, 0)
    input %x: f32[n]
    input %w: f32[n]
    input %trip: i64[]
    %zero = constant f32[] [0.0]
    %y, %kept, %sum, %path = Loop(trip=trip, carried=3, stacked=1, types=(f32[n], f32[n], f32[], f32[t, n]))(_, %x, %w, %zero, %w) : f32[n], f32[n], f32[], f32[t, n] @ "loop" {
      graph body {
        symbol n
        input %i: i64[]
        input %h: f32[n]
        input %k: f32[n]
        input %s: f32[]
        input %v: f32[n]
        %always = constant bool[] [true]
        %g = Binary(fn="mul")(%h, %k) : f32[n]
        %part = Reduce(fn="sum", axes=(0,), keepdims=false)(%v) : f32[]
        %total = Binary(fn="add")(%s, %part) : f32[]
        output on = %always
        output g = %g
        output k = %k
        output total = %total
        output row = %h
      }
    }
    READ
    output y = %y
"""


def test_states_and_stacks_that_nobody_needs_go() -> None:
    """The sum depends on itself only; the state that never changes becomes a capture."""
    statistics = check_pass(SimplifyRegions(), LOOP.replace("READ", ""), """
        symbol n = shape(%x, 0)
        symbol trip: .. = element(%trip, 0)
        input %x: f32[n]
        input %w: f32[n]
        input %trip: i64[]
        %y = Loop(trip=trip, carried=1, stacked=0, types=(f32[n],))(_, %x, %w) : f32[n] @ "loop" {
          graph body {
            symbol n
            input %i: i64[]
            input %h: f32[n]
            input %k: f32[n]
            %g = Binary(fn="mul")(%h, %k) : f32[n]
            %always = constant bool[] [true]
            output on = %always
            output g = %g
          }
        }
        output y = %y
    """)
    assert dict(statistics.rewrites) == {
        "unchanged state": 1, "unread state": 1, "unread result": 1, "capture": 2,
    }


@pytest.mark.parametrize("read", ["output sum = %sum", "output path = %path"])
def test_what_is_read_stays(read: str) -> None:
    text = LOOP.replace("READ", read)
    after = _simplified(text)
    assert read.split("%")[1] in after and "%w, %w" not in after


def _simplified(text: str) -> str:
    from tests.helpers.passes import body_of, graph_of, run_and_compare

    graph = graph_of(text)
    run_and_compare(SimplifyRegions(), graph)
    return body_of(graph)


def test_an_extent_that_something_speaks_of_keeps_its_stack() -> None:
    read = '%ones = Range(extent=t)(%i0, %i1) : i64[t]\n    output ones = %ones'
    text = LOOP.replace("READ", read).replace(
        '%zero = constant f32[] [0.0]',
        "%zero = constant f32[] [0.0]\n    %i0 = constant i64[] [0]\n    %i1 = constant i64[] [1]",
    )
    assert "%path" in _simplified(text)


def test_a_state_that_the_condition_needs_stays() -> None:
    check_unchanged(SimplifyRegions(), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        input %limit: f32[]
        %one = Unary(fn="abs")(%limit) : f32[]
        %y, %s = Loop(trip=5, carried=2, stacked=0, types=(f32[n], f32[]))(_, %x, %one, %limit) : f32[n], f32[] {
          graph body {
            symbol n
            input %i: i64[]
            input %h: f32[n]
            input %k: f32[]
            input %v: f32[]
            %g = Unary(fn="neg")(%h) : f32[n]
            %next = Binary(fn="add")(%k, %v) : f32[]
            %on = Compare(fn="lt")(%next, %v) : bool[]
            output on = %on
            output g = %g
            output next = %next
          }
        }
        output y = %y
    """)


def test_a_state_whose_extent_the_body_speaks_of_stays() -> None:
    check_unchanged(SimplifyRegions(), """
        symbol n = shape(%x, 0)
        symbol a = extent(%grown, 0)
        input %x: f32[n]
        %zero = constant i64[] [0]
        %grown, %y = Loop(trip=3, carried=2, stacked=0, types=(f32[a], i64[]))(_, %x, %zero) : f32[a], i64[] {
          graph body {
            symbol p = shape(%h, 0)
            input %i: i64[]
            input %h: f32[p]
            input %c: i64[]
            %g = Concat(axis=0)(%h, %h) : f32[2*p]
            %d = DimTensor(dims=(p,), shape=())() : i64[]
            %e = Binary(fn="add")(%c, %d) : i64[]
            %always = constant bool[] [true]
            output on = %always
            output g = %g
            output e = %e
          }
        }
        output y = %y
    """)


def test_a_growing_state_that_nobody_needs_goes_with_its_extents() -> None:
    check_pass(SimplifyRegions(), """
        symbol n = shape(%x, 0)
        symbol a = extent(%grown, 0)
        input %x: f32[n]
        %grown, %y = Loop(trip=3, carried=2, stacked=0, types=(f32[a], f32[n]))(_, %x, %x) : f32[a], f32[n] {
          graph body {
            symbol p = shape(%h, 0)
            symbol n
            input %i: i64[]
            input %h: f32[p]
            input %c: f32[n]
            %g = Concat(axis=0)(%h, %h) : f32[2*p]
            %e = Unary(fn="tanh")(%c) : f32[n]
            %always = constant bool[] [true]
            output on = %always
            output g = %g
            output e = %e
          }
        }
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[n],))(_, %x) : f32[n] {
          graph body {
            symbol n
            input %i: i64[]
            input %c: f32[n]
            %e = Unary(fn="tanh")(%c) : f32[n]
            %always = constant bool[] [true]
            output on = %always
            output e = %e
          }
        }
        output y = %y
    """)


def test_constants_are_not_captured_and_nothing_twice() -> None:
    check_pass(SimplifyRegions(), """
        input %x: f32[3]
        %two = constant f32[] [2.0]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[3],))(_, %x, %two, %x, %x) : f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            input %k: f32[]
            input %u: f32[3]
            input %v: f32[3]
            %a = Binary(fn="mul")(%h, %k) : f32[3]
            %b = Binary(fn="add")(%a, %u) : f32[3]
            %c = Binary(fn="sub")(%v, %b) : f32[3]
            %always = constant bool[] [true]
            output on = %always
            output c = %c
          }
        }
        output y = %y
    """, """
        input %x: f32[3]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[3],))(_, %x, %x) : f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            input %u: f32[3]
            %k.1 = constant f32[] [2.0]
            %a = Binary(fn="mul")(%h, %k.1) : f32[3]
            %b = Binary(fn="add")(%a, %u) : f32[3]
            %c = Binary(fn="sub")(%u, %b) : f32[3]
            %always = constant bool[] [true]
            output on = %always
            output c = %c
          }
        }
        output y = %y
    """)


@pytest.mark.parametrize(("trip", "condition"), [("0", "_"), ("-3", "_"), ("5", "%no")])
def test_a_loop_that_never_runs_is_its_start(trip: str, condition: str) -> None:
    check_pass(SimplifyRegions(), f"""
        input %x: f32[3]
        %no = constant bool[] [false]
        %y = Loop(trip={trip}, carried=1, stacked=0, types=(f32[3],))({condition}, %x) : f32[3] {{
          graph body {{
            input %i: i64[]
            input %h: f32[3]
            %a = Unary(fn="exp")(%h) : f32[3]
            %always = constant bool[] [true]
            output on = %always
            output a = %a
          }}
        }}
        %z = Unary(fn="neg")(%y) : f32[3]
        output z = %z
    """, """
        input %x: f32[3]
        %z = Unary(fn="neg")(%x) : f32[3]
        output z = %z
    """)


def test_what_goes_in_a_body_goes_in_the_loops_within() -> None:
    check_pass(SimplifyRegions(), """
        input %x: f32[3]
        %y, %z = Loop(trip=3, carried=2, stacked=0, types=(f32[3], f32[3]))(_, %x, %x) : f32[3], f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            input %k: f32[3]
            %g, %l = Loop(trip=2, carried=2, stacked=0, types=(f32[3], f32[3]))(_, %h, %h) : f32[3], f32[3] {
              graph inner {
                input %j: i64[]
                input %p: f32[3]
                input %q: f32[3]
                %r = Unary(fn="tanh")(%p) : f32[3]
                %s = Unary(fn="exp")(%q) : f32[3]
                %again = constant bool[] [true]
                output on = %again
                output r = %r
                output s = %s
              }
            }
            %always = constant bool[] [true]
            output on = %always
            output g = %g
            output l = %l
          }
        }
        output y = %y
    """, """
        input %x: f32[3]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[3],))(_, %x) : f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            %g = Loop(trip=2, carried=1, stacked=0, types=(f32[3],))(_, %h) : f32[3] {
              graph inner {
                input %j: i64[]
                input %p: f32[3]
                %r = Unary(fn="tanh")(%p) : f32[3]
                %again = constant bool[] [true]
                output on = %again
                output r = %r
              }
            }
            %always = constant bool[] [true]
            output on = %always
            output g = %g
          }
        }
        output y = %y
    """)

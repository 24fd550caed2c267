# ruff: noqa: E501 - the text of operators is long
"""What does not change from iteration to iteration is computed once, before the loop."""
from __future__ import annotations

import numpy as np
import pytest

from dlc.passes.hoist_invariants import HoistInvariants
from tests.helpers.passes import check_pass, check_unchanged


def test_work_on_captures_moves_before_the_loop() -> None:
    statistics = check_pass(HoistInvariants(), """
        symbol n = shape(%w, 0)
        input %x: f32[2, n]
        input %w: f32[n, n]
        %y, %rows = Loop(trip=3, carried=1, stacked=1, types=(f32[2, n], f32[3, n, n]))(_, %x, %w) : f32[2, n], f32[3, n, n] @ "loop" {
          graph body {
            symbol n
            input %i: i64[]
            input %h: f32[2, n]
            input %v: f32[n, n]
            %t = Transpose(perm=(1, 0))(%v) : f32[n, n] @ "loop/transpose"
            %half = constant f32[] [0.5]
            %s = Binary(fn="mul")(%t, %half) : f32[n, n] @ "loop/scale"
            %m = MatMul()(%h, %s) : f32[2, n] @ "loop/product"
            %always = constant bool[] [true]
            output on = %always
            output m = %m
            output t = %t
          }
        }
        output y = %y
        output rows = %rows
    """, """
        symbol n = shape(%w, 0)
        input %x: f32[2, n]
        input %w: f32[n, n]
        %t = Transpose(perm=(1, 0))(%w) : f32[n, n] @ "loop/transpose"
        %half = constant f32[] [0.5]
        %s = Binary(fn="mul")(%t, %half) : f32[n, n] @ "loop/scale"
        %y, %rows = Loop(trip=3, carried=1, stacked=1, types=(f32[2, n], f32[3, n, n]))(_, %x, %t, %s) : f32[2, n], f32[3, n, n] @ "loop" {
          graph body {
            symbol n
            input %i: i64[]
            input %h: f32[2, n]
            input %t.1: f32[n, n]
            input %s.1: f32[n, n]
            %m = MatMul()(%h, %s.1) : f32[2, n] @ "loop/product"
            %always = constant bool[] [true]
            output on = %always
            output m = %m
            output t = %t.1
          }
        }
        output y = %y
        output rows = %rows
    """)
    assert dict(statistics.rewrites) == {"hoist": 2}


def test_a_number_of_the_loop_may_be_bound_from_what_moves() -> None:
    check_pass(HoistInvariants(), """
        input %x: f32[8]
        input %k: i64[1]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[8],))(_, %x, %k) : f32[8] {
          graph body {
            symbol at: .. = element(%a, 0)
            guard 0 <= at, "the start is negative", "slice"
            guard at <= 4, "the start is too large", "slice"
            input %i: i64[]
            input %h: f32[8]
            input %v: i64[1]
            %a = Unary(fn="abs")(%v) : i64[1]
            %s = Slice(starts=(at,), extents=(4,), steps=(1,))(%h) : f32[4]
            %g = Concat(axis=0)(%s, %s) : f32[8]
            %always = constant bool[] [true]
            output on = %always
            output g = %g
          }
        }
        output y = %y
    """, """
        input %x: f32[8]
        input %k: i64[1]
        %a = Unary(fn="abs")(%k) : i64[1]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[8],))(_, %x, %a) : f32[8] {
          graph body {
            symbol at: .. = element(%a.1, 0)
            guard 0 <= at, "the start is negative", "slice"
            guard at <= 4, "the start is too large", "slice"
            input %i: i64[]
            input %h: f32[8]
            input %a.1: i64[1]
            %s = Slice(starts=(at,), extents=(4,), steps=(1,))(%h) : f32[4]
            %g = Concat(axis=0)(%s, %s) : f32[8]
            %always = constant bool[] [true]
            output on = %always
            output g = %g
          }
        }
        output y = %y
    """, {"k": np.array([-2])})


BODY = """
    symbol n = shape(%x, 0)
    input %x: f32[n]
    input %w: f32[n]
    input %j: i64[n]
    input %c: bool[]
    %y = Loop(trip=3, carried=1, stacked=0, types=(f32[n],))(_, %x, %w, %j, %c) : f32[n] {
      graph body {
        symbol n
        symbol number = element(%i, 0)
        input %i: i64[]
        input %h: f32[n]
        input %v: f32[n]
        input %k: i64[n]
        input %d: bool[]
        NODE
        %g = Binary(fn="add")(%h, %a) : f32[n]
        %always = constant bool[] [true]
        output on = %always
        output g = %g
      }
    }
    output y = %y
"""


@pytest.mark.parametrize(
    "node",
    [
        # Reads the state.
        '%a = Unary(fn="exp")(%h) : f32[n]',
        # Would fault where the loop does not run.
        "%a = Gather(axis=0)(%v, %k) : f32[n]",
        # Speaks of the iteration's number.
        "%s = Slice(starts=(number,), extents=(1,), steps=(1,))(%v) : f32[1]\n        "
        "%a = Expand(shape=(n,))(%s) : f32[n]",
        # Only enlarges.
        "%o = constant f32[1] [1.0]\n        %a = Expand(shape=(n,))(%o) : f32[n]",
        # Has regions.
        """%a = If(types=(f32[n],))(%d, %v) : f32[n] {
          graph yes { symbol n
            input %p: f32[n]
            output p = %p
          }
          graph no { symbol n
            input %p: f32[n]
            output p = %p
          }
        }""",
    ],
)
def test_what_varies_faults_or_enlarges_stays(node: str) -> None:
    text = BODY.replace("NODE", node).replace("yes { symbol n", "yes {\n            symbol n")
    check_unchanged(HoistInvariants(), text.replace("no { symbol n", "no {\n            symbol n"))


def test_it_moves_out_of_nested_loops() -> None:
    check_pass(HoistInvariants(), """
        input %x: f32[3]
        input %w: f32[3]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[3],))(_, %x, %w) : f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            input %v: f32[3]
            %g = Loop(trip=2, carried=1, stacked=0, types=(f32[3],))(_, %h, %v) : f32[3] {
              graph inner {
                input %j: i64[]
                input %p: f32[3]
                input %u: f32[3]
                %e = Unary(fn="exp")(%u) : f32[3]
                %r = Binary(fn="add")(%p, %e) : f32[3]
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
    """, """
        input %x: f32[3]
        input %w: f32[3]
        %e = Unary(fn="exp")(%w) : f32[3]
        %y = Loop(trip=3, carried=1, stacked=0, types=(f32[3],))(_, %x, %e) : f32[3] {
          graph body {
            input %i: i64[]
            input %h: f32[3]
            input %e.1: f32[3]
            %g = Loop(trip=2, carried=1, stacked=0, types=(f32[3],))(_, %h, %e.1) : f32[3] {
              graph inner {
                input %j: i64[]
                input %p: f32[3]
                input %e.1: f32[3]
                %r = Binary(fn="add")(%p, %e.1) : f32[3]
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

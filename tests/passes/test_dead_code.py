"""Removal of nodes that nothing depends on."""
from __future__ import annotations

from dlc.passes.dead_code import DeadCode
from tests.helpers.passes import check_pass, check_unchanged


def test_unread_results_go() -> None:
    check_pass(DeadCode(), """
        input %x: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3]
        %b = Unary(fn="neg")(%a) : f32[3]
        %y = Unary(fn="abs")(%x) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        %y = Unary(fn="abs")(%x) : f32[3]
        output y = %y
    """)


def test_everything_read_stays() -> None:
    check_unchanged(DeadCode(), """
        input %x: f32[3]
        input %unread: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3]
        %y = Unary(fn="neg")(%a) : f32[3]
        output y = %y
        output a = %a
    """)


def test_what_binds_a_symbol_of_a_live_type_stays() -> None:
    check_unchanged(DeadCode(), """
        symbol n = element(%a, 1)
        input %count: i64[2]
        %a = Unary(fn="abs")(%count) : i64[2]
        %start = constant i64[] [0]
        %step = constant i64[] [1]
        %y = Range(extent=n)(%start, %step) : i64[n]
        output y = %y
    """)


def test_what_binds_a_symbol_of_a_guard_stays() -> None:
    check_unchanged(DeadCode(), """
        symbol n = element(%a, 0)
        guard n <= 4, "at most 4", "count"
        input %count: i64[1]
        %a = Unary(fn="abs")(%count) : i64[1]
        %y = Unary(fn="neg")(%count) : i64[1]
        output y = %y
    """)


def test_a_symbol_that_nobody_speaks_of_goes_with_its_value() -> None:
    check_pass(DeadCode(), """
        symbol n = element(%a, 0)
        input %count: i64[1]
        %a = Unary(fn="abs")(%count) : i64[1]
        %start = constant i64[] [0]
        %step = constant i64[] [1]
        %r = Range(extent=n)(%start, %step) : i64[n]
        %y = Unary(fn="neg")(%count) : i64[1]
        output y = %y
    """, """
        input %count: i64[1]
        %y = Unary(fn="neg")(%count) : i64[1]
        output y = %y
    """)


def test_one_read_result_keeps_the_node() -> None:
    check_pass(DeadCode(), """
        input %x: f32[5]
        %values, %indices = TopK(axis=0, k=2, largest=true, sorted=true)(%x) : f32[2], i64[2]
        %unread = Unary(fn="exp")(%values) : f32[2]
        output y = %indices
    """, """
        input %x: f32[5]
        %values, %indices = TopK(axis=0, k=2, largest=true, sorted=true)(%x) : f32[2], i64[2]
        output y = %indices
    """)

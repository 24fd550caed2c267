"""Common subexpressions: what counts as the same, and what does not."""
from __future__ import annotations

from dlc.passes.cse import CommonSubexpressions
from tests.helpers.passes import check_pass, check_unchanged


def test_equal_nodes_become_one() -> None:
    check_pass(CommonSubexpressions(), """
        input %x: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3] @ "a"
        %b = Unary(fn="exp")(%x) : f32[3] @ "b"
        %c = Unary(fn="neg")(%b) : f32[3]
        %y = Binary(fn="add")(%a, %c) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3] @ "a", "b"
        %c = Unary(fn="neg")(%a) : f32[3]
        %y = Binary(fn="add")(%a, %c) : f32[3]
        output y = %y
    """)


def test_operands_of_commutative_functions_count_in_any_order() -> None:
    check_pass(CommonSubexpressions(), """
        input %x: f32[3]
        input %z: f32[3]
        %a = Binary(fn="add")(%x, %z) : f32[3]
        %b = Binary(fn="add")(%z, %x) : f32[3]
        %y = Binary(fn="mul")(%a, %b) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        input %z: f32[3]
        %a = Binary(fn="add")(%x, %z) : f32[3]
        %y = Binary(fn="mul")(%a, %a) : f32[3]
        output y = %y
    """)


def test_equal_constants_become_one() -> None:
    check_pass(CommonSubexpressions(), """
        input %x: f32[2]
        %c = constant f32[2] [1.0, 2.0]
        %d = constant f32[2] [1.0, 2.0]
        %a = Binary(fn="add")(%x, %c) : f32[2]
        %b = Binary(fn="add")(%x, %d) : f32[2]
        %y = Binary(fn="mul")(%a, %b) : f32[2]
        output y = %y
    """, """
        input %x: f32[2]
        %c = constant f32[2] [1.0, 2.0]
        %a = Binary(fn="add")(%x, %c) : f32[2]
        %y = Binary(fn="mul")(%a, %a) : f32[2]
        output y = %y
    """)


def test_outputs_keep_their_names() -> None:
    check_pass(CommonSubexpressions(), """
        input %x: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3]
        %b = Unary(fn="exp")(%x) : f32[3]
        output first = %a
        output second = %b
    """, """
        input %x: f32[3]
        %a = Unary(fn="exp")(%x) : f32[3]
        output first = %a
        output second = %a
    """)


def test_other_operands_attributes_types_and_zeros_differ() -> None:
    check_unchanged(CommonSubexpressions(), """
        input %x: f32[3]
        input %z: f32[3]
        %zero = constant f32[] [0.0]
        %minus_zero = constant f32[] [-0.0]
        %a = Binary(fn="sub")(%x, %z) : f32[3]
        %b = Binary(fn="sub")(%z, %x) : f32[3]
        %c = Cast(to=f64, saturate=true, round_mode="up")(%x) : f64[3]
        %d = Cast(to=f16, saturate=true, round_mode="up")(%x) : f16[3]
        %e = Binary(fn="add")(%x, %zero) : f32[3]
        %f = Binary(fn="add")(%x, %minus_zero) : f32[3]
        output a = %a
        output b = %b
        output c = %c
        output d = %d
        output e = %e
        output f = %f
    """)


def test_large_constants_are_compared_up_to_a_limit() -> None:
    text = """
        input %x: f32[2]
        %c = constant f32[2] [1.0, 2.0]
        %d = constant f32[2] [1.0, 2.0]
        %a = Binary(fn="add")(%x, %c) : f32[2]
        %y = Binary(fn="add")(%a, %d) : f32[2]
        output y = %y
    """
    check_unchanged(CommonSubexpressions(compared_bytes=4), text)

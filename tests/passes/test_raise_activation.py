"""Activations from the arithmetic that defines them."""
from __future__ import annotations

from dlc.passes.raise_activation import RaiseActivations
from tests.helpers.passes import check_pass, check_unchanged


def test_silu_from_exponentials() -> None:
    check_pass(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %n = Unary(fn="neg")(%x) : f32[8]
        %e = Unary(fn="exp")(%n) : f32[8]
        %d = Binary(fn="add")(%e, %one) : f32[8]
        %s = Binary(fn="div")(%one, %d) : f32[8]
        %y = Binary(fn="mul")(%x, %s) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary.1 = Unary(fn="silu")(%x) : f32[8]
        output y = %unary.1
    """)


def test_hard_swish_with_the_division_last() -> None:
    check_pass(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %a = Binary(fn="add")(%x, %three) : f32[8]
        %c = Clip(low=0.0, high=6.0)(%a) : f32[8]
        %m = Binary(fn="mul")(%x, %c) : f32[8]
        %y = Binary(fn="div")(%m, %six) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="hard_swish")(%x) : f32[8]
        output y = %unary
    """)


def test_hard_swish_with_the_division_first() -> None:
    check_pass(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %a = Binary(fn="add")(%x, %three) : f32[8]
        %c = Clip(low=0.0, high=6.0)(%a) : f32[8]
        %d = Binary(fn="div")(%c, %six) : f32[8]
        %y = Binary(fn="mul")(%x, %d) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="hard_swish")(%x) : f32[8]
        output y = %unary
    """)


def test_hard_sigmoid() -> None:
    check_pass(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %fifth = constant f32[] [0.2]
        %half = constant f32[] [0.5]
        %a = Binary(fn="mul")(%x, %fifth) : f32[8]
        %b = Binary(fn="add")(%a, %half) : f32[8]
        %y = Clip(low=0.0, high=1.0)(%b) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %activation = Activation(fn="hard_sigmoid", alpha=0.20000000298023224, beta=0.5)(%x) : f32[8]
        output y = %activation
    """)


def test_mish_from_exponentials() -> None:
    check_pass(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %e = Unary(fn="exp")(%x) : f32[8]
        %d = Binary(fn="add")(%e, %one) : f32[8]
        %l = Unary(fn="log")(%d) : f32[8]
        %t = Unary(fn="tanh")(%l) : f32[8]
        %y = Binary(fn="mul")(%x, %t) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary.1 = Unary(fn="mish")(%x) : f32[8]
        output y = %unary.1
    """)


def test_gates_of_something_else_stay() -> None:
    check_unchanged(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        input %z: f32[8]
        %s = Unary(fn="sigmoid")(%z) : f32[8]
        %y = Binary(fn="mul")(%x, %s) : f32[8]
        output y = %y
    """)


def test_clips_at_other_heights_stay() -> None:
    check_unchanged(RaiseActivations(), """
        input %x: f32[8]
        %one = constant f32[] [1.0]
        %three = constant f32[] [3.0]
        %six = constant f32[] [6.0]

        %a = Binary(fn="add")(%x, %three) : f32[8]
        %c = Clip(low=0.0, high=5.0)(%a) : f32[8]
        %y = Binary(fn="div")(%c, %six) : f32[8]
        output y = %y
    """)

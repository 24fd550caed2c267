"""GELU in the forms of the exporters, and products that are no GELU."""
from __future__ import annotations

from dlc.passes.raise_gelu import RaiseGelu
from tests.helpers.passes import check_pass, check_unchanged


def test_pytorch() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %a = Binary(fn="div")(%x, %root) : f32[8]
        %b = Unary(fn="erf")(%a) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %d = Binary(fn="mul")(%x, %c) : f32[8]
        %y = Binary(fn="mul")(%d, %half) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="gelu")(%x) : f32[8]
        output y = %unary
    """)


def test_tensorflow() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %a = Binary(fn="mul")(%x, %inverse) : f32[8]
        %b = Unary(fn="erf")(%a) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %d = Binary(fn="mul")(%c, %half) : f32[8]
        %y = Binary(fn="mul")(%d, %x) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="gelu")(%x) : f32[8]
        output y = %unary
    """)


def test_half_before() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %a = Binary(fn="mul")(%x, %inverse) : f32[8]
        %b = Unary(fn="erf")(%a) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %d = Binary(fn="mul")(%x, %half) : f32[8]
        %y = Binary(fn="mul")(%d, %c) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="gelu")(%x) : f32[8]
        output y = %unary
    """)


def test_tanh_with_a_power() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %p = Binary(fn="pow")(%x, %three) : f32[8]
        %a = Binary(fn="mul")(%p, %cubic) : f32[8]
        %b = Binary(fn="add")(%x, %a) : f32[8]
        %c = Binary(fn="mul")(%b, %linear) : f32[8]
        %d = Unary(fn="tanh")(%c) : f32[8]
        %e = Binary(fn="add")(%d, %one) : f32[8]
        %f = Binary(fn="mul")(%x, %half) : f32[8]
        %y = Binary(fn="mul")(%f, %e) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="gelu_tanh")(%x) : f32[8]
        output y = %unary
    """)


def test_tanh_with_products() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %p = Binary(fn="mul")(%x, %x) : f32[8]
        %a = Binary(fn="mul")(%p, %cubic) : f32[8]
        %b = Binary(fn="add")(%a, %one) : f32[8]
        %z = Binary(fn="mul")(%x, %linear) : f32[8]
        %c = Binary(fn="mul")(%z, %b) : f32[8]
        %d = Unary(fn="tanh")(%c) : f32[8]
        %e = Binary(fn="add")(%d, %one) : f32[8]
        %f = Binary(fn="mul")(%x, %e) : f32[8]
        %y = Binary(fn="mul")(%f, %half) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %unary = Unary(fn="gelu_tanh")(%x) : f32[8]
        output y = %unary
    """)


def test_sigmoid() -> None:
    check_pass(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %alpha = constant f32[] [1.702]
        %a = Binary(fn="mul")(%x, %alpha) : f32[8]
        %b = Unary(fn="sigmoid")(%a) : f32[8]
        %y = Binary(fn="mul")(%x, %b) : f32[8]
        output y = %y
    """, """
        input %x: f32[8]
        %activation = Activation(fn="swish", alpha=1.7020000219345093, beta=0.0)(%x) : f32[8]
        output y = %activation
    """)


def test_without_the_half_it_stays() -> None:
    check_unchanged(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %a = Binary(fn="mul")(%x, %inverse) : f32[8]
        %b = Unary(fn="erf")(%a) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %y = Binary(fn="mul")(%x, %c) : f32[8]
        output y = %y
    """, "instead of 0.5")


def test_another_argument_stays() -> None:
    check_unchanged(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        input %z: f32[8]
        %a = Binary(fn="mul")(%z, %inverse) : f32[8]
        %b = Unary(fn="erf")(%a) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %d = Binary(fn="mul")(%x, %c) : f32[8]
        %y = Binary(fn="mul")(%d, %half) : f32[8]
        output y = %y
    """, "no polynomial")


def test_other_coefficients_stay() -> None:
    check_unchanged(RaiseGelu(), """
        input %x: f32[8]
        %half = constant f32[] [0.5]
        %one = constant f32[] [1.0]
        %root = constant f32[] [1.4142135]
        %inverse = constant f32[] [0.70710677]
        %linear = constant f32[] [0.7978846]
        %cubic = constant f32[] [0.044715]
        %three = constant f32[] [3.0]

        %b = Unary(fn="erf")(%x) : f32[8]
        %c = Binary(fn="add")(%b, %one) : f32[8]
        %d = Binary(fn="mul")(%x, %c) : f32[8]
        %y = Binary(fn="mul")(%d, %half) : f32[8]
        output y = %y
    """, "not those of gelu")

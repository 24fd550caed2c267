"""Functions that generated kernels call: operations of the kernel IR that are several of Triton's.

They are Triton source. A module holds the ones that its kernel needs, in front of it; they are compiled into
the kernel, and take tensors of any shape and scalars alike. Literals in them take the type of the tensor that
they meet. Triton 3.6 computes ``-x`` as ``0 - x``: the negative of a float is ``x * -1.0``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dlc.backends.triton.combiners import COMBINERS
from dlc.backends.triton.minifloats import MINIFLOATS
from dlc.backends.triton.order_keys import ORDER_KEYS
from dlc.backends.triton.routine_helpers import ROUTINE_HELPERS

_INTEGERS = '''
@triton.jit
def div_signed(a, b):
    """a / b truncated; 0 for b = 0, and the least number stays itself for b = -1."""
    negates = b == -1
    quotient = a // tl.where(negates | (b == 0), 1, b)
    return tl.where(b == 0, 0, tl.where(negates, 0 - a, quotient))

@triton.jit
def div_unsigned(a, b):
    """a / b truncated; 0 for b = 0."""
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b))

@triton.jit
def fmod_signed(a, b):
    """The remainder with the sign of a; 0 for b = 0."""
    return a % tl.where((b == 0) | (b == -1), 1, b)

@triton.jit
def fmod_unsigned(a, b):
    """The remainder; 0 for b = 0."""
    return a % tl.where(b == 0, 1, b)

@triton.jit
def mod_signed(a, b):
    """The remainder with the sign of b; 0 for b = 0."""
    rest = fmod_signed(a, b)
    return tl.where((rest != 0) & ((rest ^ b) < 0), rest + b, rest)

@triton.jit
def pow_unsigned(base, exponent):
    """base ** exponent modulo 2 ** bits."""
    square = base + (exponent & 0)
    left = exponent + (base & 0)
    result = (square & 0) + 1
    for _ in range(base.dtype.primitive_bitwidth):
        result = tl.where((left & 1) != 0, result * square, result)
        square = square * square
        left = left >> 1
    return result

@triton.jit
def pow_signed(base, exponent):
    """base ** exponent modulo 2 ** bits; truncated for a negative exponent, 0 for base 0."""
    negative = exponent < 0
    # (-1) ** -n depends on the parity only.
    power = pow_unsigned(base, tl.where(negative, exponent & 1, exponent))
    inverse = tl.where(base == 1, 1, tl.where(base == -1, power, 0))
    return tl.where(negative, inverse, power)

@triton.jit
def shift_left(x, amount):
    """x << amount; 0 for an amount outside [0, bits)."""
    inside = (amount >= 0) & (amount < x.dtype.primitive_bitwidth)
    return tl.where(inside, x << tl.where(inside, amount, 0), 0)

@triton.jit
def shift_right_signed(x, amount):
    """x >> amount; copies of the sign for an amount outside [0, bits)."""
    inside = (amount >= 0) & (amount < x.dtype.primitive_bitwidth)
    return x >> tl.where(inside, amount, x.dtype.primitive_bitwidth - 1)

@triton.jit
def shift_right_unsigned(x, amount):
    """x >> amount; 0 for an amount outside [0, bits)."""
    inside = amount < x.dtype.primitive_bitwidth
    return tl.where(inside, x >> tl.where(inside, amount, 0), 0)

@triton.jit
def sign_of_integer(x):
    """-1, 0 or 1."""
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)
'''

_FLOATS = '''
@triton.jit
def is_nan(x):
    """Whether x is NaN."""
    return x != x

@triton.jit
def sign_of_float(x):
    """-1, 0 or 1; NaN stays, -0 becomes 0."""
    return tl.where(x == x, (x > 0).to(x.dtype) - (x < 0).to(x.dtype), x)

@triton.jit
def mod_float(a, b):
    """The remainder with the sign of b, which a zero has, too."""
    rest = libdevice.fmod(a, b)
    shifted = tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
    zero = tl.where(b < 0, tl.abs(rest) * -1.0, tl.abs(rest))
    return tl.where(rest == 0, zero, shifted)

@triton.jit
def sigmoid_f32(x):
    """1 / (1 + exp(-x)), without cancellation or overflow."""
    e = libdevice.exp(tl.abs(x) * -1.0)
    return tl.div_rn(tl.where(x < 0, e, 1.0), e + 1.0)

@triton.jit
def sigmoid_f64(x):
    """1 / (1 + exp(-x)), without cancellation or overflow."""
    e = libdevice.exp(tl.abs(x) * -1.0)
    return tl.where(x < 0, e, 1.0) / (e + 1.0)

@triton.jit
def softplus(x):
    """log(1 + exp(x)), without cancellation or overflow."""
    return tl.maximum(x, 0.0) + libdevice.log1p(libdevice.exp(tl.abs(x) * -1.0))
'''

_CONVERSIONS = '''
@triton.jit
def clamp_to_i32(x, low: tl.constexpr, high: tl.constexpr):
    """x truncated, as the nearest number of [low, high], which floats hold exactly; NaN as 0."""
    return tl.where(x == x, tl.minimum(tl.maximum(x, low), high), 0.0).to(tl.int32)

@triton.jit
def saturate_to_i32(x):
    """x truncated, as the nearest number; NaN as 0."""
    inside = tl.abs(x) < 2147483648.0
    extreme = tl.where(x > 0.0, 2147483647, tl.where(x < 0.0, -2147483648, 0))
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int32), extreme)

@triton.jit
def saturate_to_i64(x):
    """x truncated, as the nearest number; NaN as 0."""
    inside = tl.abs(x) < 9223372036854775808.0
    extreme = tl.where(x > 0.0, 9223372036854775807, tl.where(x < 0.0, -9223372036854775808, 0))
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int64), extreme)

@triton.jit
def saturate_to_u32(x):
    """x truncated, as the nearest number; NaN as 0."""
    inside = (x >= 0.0) & (x < 4294967296.0)
    number = tl.where(inside, x, 0.0).to(tl.uint32)
    return tl.where(x >= 4294967296.0, 4294967295, number)

@triton.jit
def saturate_to_u64(x):
    """x truncated, as the nearest number; NaN as 0."""
    inside = (x >= 0.0) & (x < 18446744073709551616.0)
    number = tl.where(inside, x, 0.0).to(tl.uint64)
    return tl.where(x >= 18446744073709551616.0, 18446744073709551615, number)

@triton.jit
def wrap_to_i32(x):
    """x truncated; the least number for NaN and out of range."""
    inside = tl.abs(x) < 2147483648.0
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int32), -2147483648)

@triton.jit
def wrap_to_i64(x):
    """x truncated; the least number for NaN and out of range."""
    inside = tl.abs(x) < 9223372036854775808.0
    return tl.where(inside, tl.where(inside, x, 0.0).to(tl.int64), -9223372036854775808)

@triton.jit
def wrap_to_u32(x):
    """x truncated; out of range what x86-64 makes of it: see Casts in docs/semantics.md."""
    upper = wrap_to_i32(x - 2147483648.0) ^ -2147483648
    return tl.where(x >= 2147483648.0, upper, wrap_to_i32(x)).to(tl.uint32)

@triton.jit
def wrap_to_u64(x):
    """x truncated; out of range what x86-64 makes of it: see Casts in docs/semantics.md."""
    upper = wrap_to_i64(x - 9223372036854775808.0) ^ -9223372036854775808
    return tl.where(x >= 9223372036854775808.0, upper, wrap_to_i64(x)).to(tl.uint64)

@triton.jit
def round_to_odd(x):
    """An f64 as f32 such that rounding once more, to at most 22 bits, is as good as rounding once."""
    near = x.to(tl.float32)
    back = near.to(tl.float64)
    bits = near.to(tl.int32, bitcast=True)
    neighbour = tl.where(tl.abs(x) > tl.abs(back), bits + 1, bits - 1)
    # A NaN differs from itself but has no neighbour to go to.
    away = (x < back) | (x > back)
    odd = tl.where(away & ((bits & 1) == 0), neighbour, bits)
    return odd.to(tl.float32, bitcast=True)

@triton.jit
def to_f8e4m3fn(x, beyond: tl.constexpr):
    """An f32 rounded once, half to even; the magnitude `beyond` has the code of what is too large."""
    code = x.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    return tl.where(tl.abs(x) > 464.0, (code & 128) | beyond, code).to(tl.float8e4nv, bitcast=True)

@triton.jit
def from_f8e5m2(x):
    """An f8e5m2, which is the upper byte of an f16, as f32."""
    bits = x.to(tl.uint8, bitcast=True).to(tl.uint16) << 8
    return bits.to(tl.float16, bitcast=True).to(tl.float32)

@triton.jit
def to_f8e5m2(x, beyond: tl.constexpr):
    """An f32 rounded once, half to even; the magnitude `beyond` has the code of what is too large."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # Of 23 bits of the fraction 21 go, and the biases of the exponents differ by 112.
    normal = ((magnitude + 0xFFFFF + ((magnitude >> 21) & 1)) >> 21) - 448
    # The unit in the last place of numbers from 128 on is that of denormals, 2^-16.
    denormal = (tl.abs(x) + 128.0).to(tl.int32, bitcast=True) - 0x43000000
    code = tl.where(magnitude < 0x38800000, denormal, normal)
    code = tl.where(tl.abs(x) >= 61440.0, beyond, tl.where(x == x, code, 0x7E))
    return (((bits >> 24) & 0x80) | code).to(tl.uint8).to(tl.float8e5, bitcast=True)
'''

_INDICES = '''
@triton.jit
def index_floordiv(a, b):
    """a / b rounded down, for b > 0."""
    quotient = a // b
    return tl.where(quotient * b > a, quotient - 1, quotient)

@triton.jit
def index_mod(a, b):
    """a - b * floor(a / b), for b > 0."""
    rest = a % b
    return tl.where(rest < 0, rest + b, rest)

@triton.jit
def index_broadcast(a, b):
    """The extent that a and b broadcast to."""
    return tl.where(a == 1, b, a)

@triton.jit
def index_fault(fault, bad):
    """Report an index from data that is out of range."""
    tl.store(fault + bad.to(tl.int32) * 0, 1, mask=bad)
'''


def _split(source: str) -> dict[str, str]:
    """Each function's text by its name."""
    texts = [text.strip() + "\n" for text in re.split(r"^(?=@triton\.jit)", source, flags=re.MULTILINE)]
    return {_DEFINED.findall(text)[0]: text for text in texts if _DEFINED.search(text)}


_DEFINED = re.compile(r"^def (\w+)\(", re.MULTILINE)
_NAME = re.compile(r"(?<![.\w])[a-z]\w*")

#: The source of each function by its name; what a function calls comes before it.
HELPERS: Mapping[str, str] = _split(
    _INTEGERS + _FLOATS + _CONVERSIONS + MINIFLOATS + ORDER_KEYS + _INDICES + COMBINERS + ROUTINE_HELPERS
)


def helpers_of(source_text: str) -> tuple[str, ...]:
    """The texts of the functions that `source_text` names, directly or not, dependencies first."""
    needed: set[str] = set()
    found = set(_NAME.findall(source_text)) & HELPERS.keys()
    while found:
        needed |= found
        found = {name for helper in found for name in _NAME.findall(HELPERS[helper])} & HELPERS.keys()
        found -= needed
    return tuple(text for name, text in HELPERS.items() if name in needed)

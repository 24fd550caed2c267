"""Helpers for 8- and 4-bit floats that Triton has not: their codes to f32 and back, by integer arithmetic.

As in the code for CPUs: shifted into place the fields of a small float are an f32 but for the bias of the
exponent, which a product with a power of two corrects, denormals included.
"""

from __future__ import annotations

_DECODE = '''
@triton.jit
def from_{name}(code):
    """The exact f32 of {name} codes."""
    wide = code.to(tl.int32)
    fields = ((wide & {magnitude}) << {shift}).to(tl.float32, bitcast=True) * {scale}
    number = fields.to(tl.int32, bitcast=True) | ((wide & {sign}) << {sign_shift})
    return {result}.to(tl.float32, bitcast=True)
'''

_ENCODE = '''
@triton.jit
def to_{name}(x, beyond: tl.constexpr):
    """An f32 rounded once, half to even; `beyond` is the code of what is too large."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    normal = ((magnitude + {half} + ((magnitude >> {shift}) & 1)) >> {shift}) - {excess}
    # Adding a power of two whose unit in the last place is the least denormal rounds to multiples of that.
    denormal = (tl.abs(x) + {adder}).to(tl.int32, bitcast=True) - {adder_bits}
    code = tl.where(magnitude < {smallest_normal}, denormal, normal)
    code = tl.where(code > {largest}, beyond, code)
    sign = (bits >> {sign_shift}) & {sign}
    {result}
    return tl.where(x == x, code, {nan}).to(tl.uint8)
'''

_EXPONENT = '''
@triton.jit
def from_f8e8m0(code):
    """The power of two whose biased exponent the code is, as f32."""
    wide = code.to(tl.int32)
    # 2^-127 is a denormal.
    bits = tl.where(wide == 0, 0x400000, tl.where(wide == 255, 0x7FC00000, wide << 23))
    return bits.to(tl.float32, bitcast=True)

@triton.jit
def to_f8e8m0(x, beyond: tl.constexpr):
    """The least power of two that is not below the magnitude of an f32; `beyond` is the code of what is too
    large, and tells by 255 that what is too small becomes NaN, too."""
    magnitude = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    normal = (magnitude >> 23) + ((magnitude & 0x7FFFFF) != 0).to(tl.int32)
    code = tl.where(magnitude < 0x800000, (magnitude > 0x400000).to(tl.int32), normal)
    code = tl.where(code > 254, beyond, code)
    code = tl.where((magnitude <= 0x200000) & (beyond == 255), 255, code)
    return tl.where(x == x, code, 255).to(tl.uint8)
'''


def _format(name: str, bits: int, mantissa: int, bias: int, largest: int) -> str:
    """Both helpers of a format with a sign; those of 8 bits are "fnuz", with NaN in place of -0."""
    has_nan = bits == 8
    drop = 23 - mantissa
    excess = 127 - bias
    unit = 1 - bias - mantissa + 23  # the exponent of the number whose last place is the least denormal
    sign = 1 << (bits - 1)
    decoded = f"tl.where(wide == {sign}, 0x7FC00000, number)" if has_nan else "number"
    if has_nan:
        encoded = "code = tl.where(code == 0, 0, code | sign)"
    else:
        encoded = "code = code | sign"
    return _DECODE.format(
        name=name,
        magnitude=sign - 1,
        shift=drop,
        scale=f"{2.0**excess!r}",
        sign=sign,
        sign_shift=32 - bits,
        result=decoded,
    ) + _ENCODE.format(
        name=name,
        half=(1 << (drop - 1)) - 1,
        shift=drop,
        excess=excess << mantissa,
        adder=f"{2.0**unit!r}",
        adder_bits=(unit + 127) << 23,
        smallest_normal=(excess + 1) << 23,
        largest=largest,
        sign_shift=32 - bits,
        sign=sign,
        nan=sign,
        result=encoded,
    )


#: The source of all of them.
MINIFLOATS = (
    _format("f8e4m3fnuz", 8, 3, 8, 0x7F)
    + _format("f8e5m2fnuz", 8, 2, 16, 0x7F)
    + _format("f4e2m1", 4, 1, 1, 0x7)
    + _EXPONENT
)

"""Integer products as matrix multiplications over words of 32 bits.

A word holds 4 bytes, or 2 numbers of 16 bits, that follow each other along the depth; the form says `depth`
for the number of words. With X the left numbers, W the right ones as they are packed, zx and zw the zero
points of these,

    sum (x - zx) (w - zw) = sum x w - zx (sum w - K zw) - zw sum x

modulo 2**32: the first sum is what the tiles compute, the second one is a constant of the column, the third
one a number of the row. The correction is the first stage after the product.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu.templates.gemm_form import (
    GemmForm,
    Operand,
    Packed,
    Plain,
    check_stages,
    merged_form,
    single_constant,
    without_unit_axes,
)
from dlc.backends.cpu.templates.gemm_tile import Multiplication
from dlc.backends.cpu.templates.integer_operand import (
    IntegerOperand,
    choose_multiplication,
    integer_operand,
    numbers_of_word,
)
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import Dim, product
from dlc.ir.dims.division import exact_quotient
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, Contract, Kernel, LocalTensor, Map
from dlc.target import CpuTarget

#: Locals that the correction reads: sums of the packed right numbers of a column, of the left ones of a row.
COLUMN_SUMS, ROW_SUMS = "column_sums", "row_sums"
_PRODUCTS = "products"


@dataclasses.dataclass(frozen=True)
class IntegerForm:
    """An integer product: `gemm` over words, and over numbers what is not: `depth` and the left operand.

    The right operand's sign bits are turned over in packing if `turned`. `left` is read in words where
    `gemm.left` has a place, and is packed into rows of words otherwise. `row_sums` tells whether the
    correction reads them.
    """

    gemm: GemmForm
    depth: Axis
    left: e.Load
    packed: Packed
    multiplication: Multiplication
    turned: bool
    row_sums: bool


def integer_form(kernel: Kernel, target: CpuTarget) -> IntegerForm | Declined:
    """`kernel` as an integer matrix product with a constant operand, or why it is none."""
    original = kernel
    if not kernel.body or not isinstance(kernel.body[0], Contract):
        return Declined("the kernel does not start with a contraction")
    if kernel.body[0].out.dtype is not DType.I32:
        return Declined("not a product of integers")
    if kernel.body[0].spec.windows:
        return Declined("a convolution")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    reason = check_stages(kernel)
    if reason is not None:
        return Declined(reason)
    kernel = without_unit_axes(kernel)
    contract = kernel.body[0]
    assert isinstance(contract, Contract)
    left, right = integer_operand(contract.left), integer_operand(contract.right)
    if left is None or right is None:
        return Declined("operands are not converted from 8 bits")
    if (left.axes | right.axes) & set(contract.spec.reduce):
        return Declined("a zero point changes along the depth")
    if single_constant(kernel, right.load) is None:
        left, right = right, left
    if single_constant(kernel, right.load) is None or right.load.mask:
        return Declined("no operand is constant")
    return _over_words(original, kernel, left, right, target)


def _over_words(
    original: Kernel, kernel: Kernel, left: IntegerOperand, right: IntegerOperand, target: CpuTarget
) -> IntegerForm | Declined:
    contract = kernel.body[0]
    assert isinstance(contract, Contract)
    multiplication = choose_multiplication(target, left.signed)
    turned = multiplication is not Multiplication.WORDS16 and left.signed == right.signed
    right_zero = right.turned_zero() if turned else right.zero
    depth = product([kernel.extent(name) for name in contract.spec.reduce])
    out = LocalTensor(fresh_local(kernel), DType.I32, contract.out.axes)
    identity = tuple(kernel.axis(axis).symbol for axis in out.axes)
    products = e.Read(DType.I32, out.name, identity)
    bytes_product = Contract(out, contract.spec, left.load, right.load)
    value = corrected(
        products,
        (left.zero, e.Read(DType.I32, ROW_SUMS, ())),
        (right_zero, e.Read(DType.I32, COLUMN_SUMS, ())),
        depth,
    )
    if value is products:
        bytes_product = dataclasses.replace(bytes_product, out=contract.out)
        body = (bytes_product, *kernel.body[1:])
    else:
        body = (bytes_product, Map(contract.out, value), *kernel.body[1:])
    form = merged_form(original, dataclasses.replace(kernel, body=body), bytes_product)
    if form.packed is None or not isinstance(form.reduce.extent, int):
        return Declined("the constant's strides are not numbers")
    assert isinstance(form.left.value, e.Load)
    words = dataclasses.replace(form.reduce, extent=-(-form.reduce.extent // numbers_of_word(multiplication)))
    constant = dataclasses.replace(
        form.packed.param, type=dataclasses.replace(form.packed.param.type, dtype=DType.I32)
    )
    place = None
    if multiplication is not Multiplication.WORDS16:
        place = _in_words(form.left.plain, form.reduce.extent)
    gemm = dataclasses.replace(
        form,
        reduce=words,
        dtype=DType.I32,
        left=Operand(form.left.value, place) if place else Operand(e.Const(DType.I32, 0), None),
        packed=dataclasses.replace(form.packed, param=constant),
    )
    reads_rows = right_zero is not None
    return IntegerForm(
        gemm, form.reduce, form.left.value, form.packed, multiplication, turned, reads_rows
    )


def fresh_local(kernel: Kernel) -> str:
    """A name for the products that no local has."""
    taken = {stage.out.name for stage in kernel.body if isinstance(stage, Map | Contract)}
    name = _PRODUCTS
    while name in taken:
        name += "_"
    return name


def corrected(
    products: e.Expr, x: tuple[e.Expr | None, e.Expr], w: tuple[e.Expr | None, e.Expr], depth: Dim
) -> e.Expr:
    """The product of the numbers minus their zero points, from that of the numbers.

    `x` and `w` are the zero point of an operand (None: 0) and the sum of its numbers.
    """

    def binary(fn: str, left: e.Expr, right: e.Expr) -> e.Expr:
        return e.Binary(DType.I32, fn, left, right)

    (x_zero, x_sum), (w_zero, w_sum), value = x, w, products
    if x_zero is not None:
        if w_zero is not None:
            w_sum = binary("sub", w_sum, binary("mul", e.Iota(DType.I32, depth), w_zero))
        value = binary("sub", value, binary("mul", x_zero, w_sum))
    if w_zero is not None:
        value = binary("sub", value, binary("mul", w_zero, x_sum))
    return value


def _in_words(plain: Plain | None, depth: int) -> Plain | None:
    """The place of bytes counted in words, where rows are whole words that follow each other."""
    if plain is None or plain.reduce != 1 or depth % 4:
        return None
    base, outer = exact_quotient(plain.base, 4), exact_quotient(plain.outer, 4)
    if base is None or outer is None:
        return None
    return Plain(plain.param, base, outer, 1)

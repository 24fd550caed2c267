"""Kernels of resampling, regions, Einstein sums and small matrices against the operators' own evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.ops.contraction import Einsum
from dlc.ir.ops.deformable import DeformConv
from dlc.ir.ops.grid_sample import GridSample
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.linear_algebra import Det, Inverse
from dlc.ir.ops.resize import Resize
from dlc.ir.ops.roi import RoiAlign
from dlc.ir.types import ZERO, Halo, blocked_channels
from dlc.verify.tolerances import Work
from tests.lowering.kernels import check_rule
from tests.lowering.rules.test_pointwise import integers, random


@pytest.mark.parametrize("sizes", [(2, 3, 8, 10), (2, 3, 2, 3), (2, 3, 7, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
def test_resizing(sizes: tuple[int, ...], mode: str, coordinates: str) -> None:
    op = Resize(sizes, (None,) * 4, mode, coordinates, "round_prefer_floor", -0.75, False, 0.0, False)
    check_rule(op, random(2, 3, 4, 5), work=Work.CONTRACTION)


@pytest.mark.parametrize("nearest", ["round_prefer_ceil", "floor", "ceil"])
def test_resizing_to_the_nearest(nearest: str) -> None:
    op = Resize((3, 9), (None, 1.8), "nearest", "asymmetric", nearest, -0.75, False, 0.0, False)
    check_rule(op, random(3, 5), work=Work.EXACT)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resizing_with_antialias_or_without_what_is_outside(mode: str) -> None:
    x = random(1, 2, 9, 8)
    for exclude, antialias in ((True, False), (False, True)):
        op = Resize((1, 2, 4, 3), (None,) * 4, mode, "half_pixel", "floor", -0.5, exclude, 0.0, antialias)
        check_rule(op, x, work=Work.CONTRACTION)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
def test_grid_samples(mode: str, padding: str, align: bool) -> None:
    grid = random(2, 3, 4, 2, seed=1) * np.float32(0.9)
    check_rule(GridSample(mode, padding, align), random(2, 3, 5, 6), grid, work=Work.CONTRACTION)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_regions(mode: str, samples: int, half_pixel: bool) -> None:
    rois = np.array([[0, 0, 9, 7], [2, 1, 5, 6], [-3, 2, 20, 4]], np.float32)
    images = np.array([0, 1, 0])
    check_rule(
        RoiAlign(mode, 3, 2, samples, 0.7, half_pixel),
        random(2, 3, 8, 9),
        rois,
        images,
        work=Work.CONTRACTION,
    )


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolutions(modulated: bool) -> None:
    op = DeformConv((1, 2), (1, 1), ((1, 1), (0, 1)), offset_groups=2)
    x, w = random(2, 4, 5, 6), random(3, 4, 3, 2, seed=1)
    offset, mask = random(2, 24, 5, 3, seed=2), random(2, 12, 5, 3, seed=3)
    check_rule(op, x, w, offset, random(3, seed=4), mask if modulated else None)


EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("i,j->ij", (3,), (4,)),
    ("ij,ij->", (3, 4), (3, 4)),
    ("ii->i", (4, 4), None),
    ("ij->ji", (3, 4), None),
    ("ijk->j", (2, 3, 4), None),
]


@pytest.mark.parametrize(("equation", "left", "right"), EINSUMS)
def test_einstein_sums(equation: str, left: tuple[int, ...], right: tuple[int, ...] | None) -> None:
    arrays = [random(*left)] if right is None else [random(*left), random(*right, seed=1)]
    check_rule(Einsum(equation), *arrays)


def test_an_einstein_sum_of_three() -> None:
    check_rule(Einsum("ij,jk,kl->il"), random(2, 3), random(3, 4, seed=1), random(4, 5, seed=2))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_small_matrices(size: int) -> None:
    matrices = random(3, size, size) + np.float32(3) * np.eye(size, dtype=np.float32)
    check_rule(Det(), matrices, work=Work.RECURRENT)
    check_rule(Inverse(), matrices, work=Work.RECURRENT)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_other_layouts(dtype: Any) -> None:
    layout = blocked_channels(4, 16, (Halo(2, 1, 1, ZERO), Halo(3, 2, 0, ZERO)), ZERO)
    check_rule(Relayout(layout), integers(2, 20, 3, 4, dtype=dtype), work=Work.EXACT)

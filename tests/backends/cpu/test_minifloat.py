"""8- and 4-bit floats against ml_dtypes, for every code and around every rounding boundary."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dlc.backends.cpu import minifloat
from dlc.backends.cpu.minifloat import Minifloat
from dlc.target import CpuTarget
from tests.backends.cpu.harness import apply_lanes, each_target

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FORMATS = [
    (minifloat.F8E4M3FN, ml_dtypes.float8_e4m3fn),
    (minifloat.F8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
    (minifloat.F8E5M2, ml_dtypes.float8_e5m2),
    (minifloat.F8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
    (minifloat.F4E2M1, ml_dtypes.float4_e2m1fn),
]
each_format = pytest.mark.parametrize("format,dtype", FORMATS, ids=[d.__name__ for _, d in FORMATS])


@each_target
@each_format
def test_decode_every_code(target: CpuTarget, format: Minifloat, dtype: type) -> None:
    codes = np.arange(1 << format.bits, dtype=np.uint8)
    got = apply_lanes(target, lambda b, v: minifloat.decode(b, v, format), codes, out=np.float32)
    expected = codes.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got)[got == 0], np.signbit(expected)[got == 0])


@each_target
@each_format
@pytest.mark.parametrize("saturate", [False, True])
def test_encode(target: CpuTarget, format: Minifloat, dtype: type, saturate: bool) -> None:
    finite = np.arange(1 << format.bits, dtype=np.uint8).view(dtype).astype(np.float32)
    finite = np.sort(finite[np.isfinite(finite)])
    middle = (finite[:-1] + finite[1:]) / 2
    random = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32).view(np.float32)
    near = np.concatenate([np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf), middle, finite])
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, 1e-44, -1e-44, 500.0, 464.1, 464.0])
    x = np.concatenate([near, random, ends]).astype(np.float32)
    got = apply_lanes(target, lambda b, v: minifloat.encode(b, v, format, saturate=saturate), x, out=np.uint8)
    top = float(finite[-1])
    expected = (np.clip(x, -top, top) if saturate else x).astype(dtype)
    np.testing.assert_array_equal(got.view(dtype).astype(np.float32), expected.astype(np.float32))

"""Functions that the templates of routines call, as Triton source: see dlc.backends.triton.helpers."""

from __future__ import annotations

#: The source of all of them.
ROUTINE_HELPERS = '''
@triton.jit
def boxes_overlap(x0, y0, x1, y1, u0, v0, u1, v1, threshold):
    """Whether the intersection of two boxes over their union is greater than the threshold."""
    width = tl.minimum(x1, u1) - tl.maximum(x0, u0)
    height = tl.minimum(y1, v1) - tl.maximum(y0, v0)
    common = width * height
    area = (x1 - x0) * (y1 - y0)
    other = (u1 - u0) * (v1 - v0)
    union = area + other - common
    valid = (x0 == x0) & (y0 == y0) & (x1 == x1) & (y1 == y1)
    valid = valid & (u0 == u0) & (v0 == v0) & (u1 == u1) & (v1 == v1)
    valid = valid & (width > 0.0) & (height > 0.0) & (area > 0.0) & (other > 0.0) & (union > 0.0)
    return valid & (tl.div_rn(common, union) > threshold) & (common > 0.0)

@triton.jit
def roi_low(at, extent):
    """The position of the lower neighbour of a sample on its axis."""
    last = tl.maximum(extent - 1, 0)
    inside = tl.minimum(tl.maximum(at, 0.0), last.to(at.dtype))
    return tl.minimum(tl.floor(inside).to(tl.int32), last)

@triton.jit
def roi_share(at, extent):
    """The weight of the upper neighbour of a sample; the lower one has the rest."""
    last = tl.maximum(extent - 1, 0)
    inside = tl.minimum(tl.maximum(at, 0.0), last.to(at.dtype))
    return inside - tl.floor(inside)

@triton.jit
def roi_valid(at, extent):
    """Whether a sample is within [-1, extent]: others weigh nothing."""
    return (at >= -1.0) & (at <= extent.to(at.dtype))
'''

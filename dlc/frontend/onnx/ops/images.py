"""ImageDecoder, which runs only where the limits allow the decoding of images."""

from __future__ import annotations

import importlib.util

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.open_results import bind_extents, with_symbols
from dlc.frontend.onnx.registry import importer
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.images import PIXEL_FORMATS, ImageDecoder

#: Suggested to who has not allowed any: an image of 8192 x 8192.
_USUAL_PIXELS = 1 << 26


@importer("ImageDecoder", since=20)
def image_decoder(ctx: NodeContext) -> Value:
    """A compressed image as u8 [height, width, channels], on the host."""
    most = ctx.importer.limits.decoded_pixels
    if not most:
        hint = f"if the images are trusted, allow it with limits=dlc.Limits(decoded_pixels={_USUAL_PIXELS})"
        ctx.unsupported("decoding images is off: decoders of images are a way into a process", hint)
    if importlib.util.find_spec("PIL") is None:
        ctx.unsupported("decoding images needs Pillow", "pip install pillow")
    pixel_format = ctx.string("pixel_format", "RGB")
    if pixel_format not in PIXEL_FORMATS:
        ctx.fail(f"attribute 'pixel_format' is {pixel_format!r}, none of {', '.join(PIXEL_FORMATS)}")
    channels = 1 if pixel_format == "Grayscale" else 3
    type_, symbols = with_symbols(ctx, DType.U8, (None, None, channels))
    result = ctx.add(ImageDecoder(pixel_format, most, type_), ctx.required(0))
    bind_extents(ctx, symbols, result)
    return result

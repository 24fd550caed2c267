"""Decoding of compressed images, by Pillow where it is installed: the only operator that needs a library."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import LimitError, UnsupportedError
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.common import given, take
from dlc.ir.types import TensorType, Type

#: The formats that the standard lists, by Pillow's names; no other decoder of Pillow sees the data.
_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
#: Name of the order of channels -> Pillow's mode.
PIXEL_FORMATS = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@dataclasses.dataclass(frozen=True)
class ImageDecoder(Operator):
    """The image [height, width, channels] that the bytes u8[n] encode, of type u8; [0, 0, channels] if none.

    `pixel_format` is a name of PIXEL_FORMATS. `type` is that of the result, whose height and width are
    symbols that are bound from it. An image of more than `most_pixels` is a LimitError before it is decoded.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    pixel_format: str
    most_pixels: int
    type: TensorType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        if self.pixel_format not in PIXEL_FORMATS:
            raise InferenceError(f"pixel_format {self.pixel_format!r} is none of {', '.join(PIXEL_FORMATS)}")
        if x.dtype is not DType.U8 or x.rank != 1:
            raise InferenceError(f"the operand must be u8 of rank 1, but is {x}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        try:
            pixels = self._decoded(given(inputs[0]).tobytes())
        except ImportError:
            raise UnsupportedError("decoding images needs Pillow", hint="pip install pillow") from None
        channels = 1 if self.pixel_format == "Grayscale" else 3
        if pixels is None:
            return (np.zeros((0, 0, channels), np.uint8),)
        pixels = pixels.reshape(*pixels.shape[:2], channels)
        return (np.ascontiguousarray(pixels[..., ::-1] if self.pixel_format == "BGR" else pixels),)

    def _decoded(self, data: bytes) -> Array | None:
        """The pixels as Pillow gives them; None for what is no image."""
        from PIL import Image

        with warnings.catch_warnings():
            # Pillow warns of images that are large by its own measure; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                image = Image.open(io.BytesIO(data), formats=_FORMATS)
                self._check_size(image.width * image.height)
                return np.asarray(image.convert(PIXEL_FORMATS[self.pixel_format]))
            except Image.DecompressionBombError:
                raise LimitError("an image has more pixels than Pillow allows") from None
            except LimitError:
                raise
            except Exception:
                # Decoders meet damaged data with errors of many classes; the standard wants an empty result.
                return None

    def _check_size(self, pixels: int) -> None:
        if pixels > self.most_pixels:
            hint = f"if the images are trusted, compile with limits=dlc.Limits(decoded_pixels={pixels})"
            message = f"an image of {pixels:,} pixels exceeds the limit of {self.most_pixels:,}"
            raise LimitError(message, hint=hint)

"""The model that ships with dlc for `dlc demo`, the tests and first steps; made by examples/train_digits.py.

`digits.onnx` reads 8 x 8 images of handwritten digits: input `image` float32 [batch, 1, 8, 8] (grey levels
0..16), output `logits` float32 [batch, 10]. `digits_test.npz` holds the 600 images kept out of its training
(`images` uint8 [600, 8, 8], `labels` uint8 [600]). The images are from "Optical Recognition of Handwritten
Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path

#: Share of `digits_test.npz` that `digits.onnx` classifies rightly.
DIGITS_ACCURACY = 0.99


def digits_path() -> Path:
    """The file of the demo model."""
    return Path(__file__).parent / "digits.onnx"


def digits_test_path() -> Path:
    """The file of the demo model's held-out images and labels."""
    return Path(__file__).parent / "digits_test.npz"

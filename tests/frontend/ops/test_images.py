"""ImageDecoder: off unless allowed, bounded, and then what Pillow makes of the data."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.errors import LimitError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import check, import_model
from tests.helpers.onnx_cases import as_array, backend_node_cases, one_node_model

Image = pytest.importorskip("PIL.Image")
CASES = backend_node_cases(["ImageDecoder"])
ALLOWED = dlc.Limits(decoded_pixels=4096)
PIXELS = np.random.default_rng(3).integers(0, 255, (5, 7, 3)).astype(np.uint8)


def encoded(name: str = "PNG", pixels: Any = PIXELS) -> np.ndarray[Any, Any]:
    """The bytes of a file of that format."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name)
    return np.frombuffer(file.getvalue(), np.uint8)


def decode(data: np.ndarray[Any, Any], limits: dlc.Limits = ALLOWED, **attributes: Any) -> Any:
    model = one_node_model("ImageDecoder", [data], 1, attributes, 20, symbolic=True)
    with dlc.compile(model, limits=limits, threads=1, cache=False) as compiled:
        (y,) = compiled({"x0": data})
    return y


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    """Decoders of lossy formats differ by a few steps of 255."""
    (inputs, outputs), = case.data_sets
    with dlc.compile(case.model, limits=ALLOWED, threads=1, cache=False) as compiled:
        (y,) = compiled({case.model.graph.input[0].name: as_array(inputs[0])})
    wanted = as_array(outputs[0])
    assert y.shape == wanted.shape and y.dtype == wanted.dtype
    np.testing.assert_allclose(y.astype(int), wanted.astype(int), atol=3)


def test_it_is_off_unless_allowed() -> None:
    (finding,) = check(one_node_model("ImageDecoder", [encoded()], 1, {}, 20))
    assert "off" in finding.reason and "decoded_pixels" in (finding.hint or "")


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss(name: str) -> None:
    np.testing.assert_array_equal(decode(encoded(name)), PIXELS)
    np.testing.assert_array_equal(decode(encoded(name), pixel_format="BGR"), PIXELS[..., ::-1])
    grey = decode(encoded(name), pixel_format="Grayscale")
    assert grey.shape == (5, 7, 1)


def test_what_is_no_image_gives_an_empty_one() -> None:
    damaged = encoded().copy()
    damaged[40:] = 0
    for data in (damaged, np.zeros(9, np.uint8), np.zeros(0, np.uint8), encoded("GIF")):
        assert decode(data).shape == (0, 0, 3)
    assert decode(np.zeros(3, np.uint8), pixel_format="Grayscale").shape == (0, 0, 1)


def test_images_are_measured_before_they_are_decoded() -> None:
    with pytest.raises(LimitError, match="4,160 pixels exceeds the limit of 4,096"):
        decode(encoded("PNG", np.zeros((64, 65), np.uint8)))


def test_the_result_can_be_computed_with() -> None:
    """Height and width are bound when the image is decoded."""
    model = one_node_model("ImageDecoder", [encoded()], 1, {}, 20, symbolic=True)
    node = model.graph.node.add(op_type="Transpose", input=["y0"], output=["z"])
    node.attribute.add(name="perm", ints=[2, 0, 1], type=7)
    model.graph.output[0].name = "z"
    with dlc.compile(model, limits=ALLOWED, threads=1, cache=False) as compiled:
        assert [host.operator for host in compiled.report().hosts] == ["ImageDecoder"]
        for pixels in (PIXELS, PIXELS[:2, :3]):
            (z,) = compiled({"x0": encoded("PNG", pixels)})
            np.testing.assert_array_equal(z, pixels.transpose(2, 0, 1))


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded()
    model = one_node_model("ImageDecoder", [data], 1, {}, 20, symbolic=True)
    compiled = dlc.compile(model, limits=ALLOWED, threads=1, cache=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedError, match="Pillow"):
        compiled({"x0": data})
    compiled.close()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError):
        import_model(model, limits=ALLOWED)


def test_malformed_nodes() -> None:
    with pytest.raises(ModelError, match="pixel_format"):
        decode(encoded(), pixel_format="CMYK")
    with pytest.raises(ModelError, match="rank 1"):
        decode(encoded().reshape(1, -1))

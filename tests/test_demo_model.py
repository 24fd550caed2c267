"""The shipped demo model: size, interface and the accuracy that its package states."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from dlc.models import DIGITS_ACCURACY, digits_path, digits_test_path


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(digits_path().read_bytes(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(digits_test_path(), allow_pickle=False) as data:
        return data["images"].astype(np.float32)[:, None], data["labels"]


def test_interface_and_size(session: onnxruntime.InferenceSession) -> None:
    assert digits_path().stat().st_size < 300_000 and digits_test_path().stat().st_size < 50_000
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("image", ["batch", 1, 8, 8], "tensor(float)")
    assert (logits.name, logits.shape) == ("logits", ["batch", 10])
    onnx.checker.check_model(onnx.load(digits_path()), full_check=True)


def test_stated_accuracy(session: onnxruntime.InferenceSession, held_out: tuple) -> None:
    images, labels = held_out
    assert images.shape == (600, 1, 8, 8) and set(labels) == set(range(10))
    (logits,) = session.run(["logits"], {"image": images})
    assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(DIGITS_ACCURACY, abs=1e-9)


def test_batch_is_dynamic(session: onnxruntime.InferenceSession, held_out: tuple) -> None:
    images, _ = held_out
    (whole,) = session.run(None, {"image": images[:5]})
    (single,) = session.run(None, {"image": images[2:3]})
    np.testing.assert_allclose(single[0], whole[2], rtol=1e-4, atol=1e-5)


def test_nothing_of_the_training_machine_is_stored() -> None:
    model = onnx.load(digits_path())
    assert not model.metadata_props and all(not node.metadata_props for node in model.graph.node)

"""Train the demo model that ships with dlc: a small residual CNN for 8 x 8 images of handwritten digits.

    python examples/train_digits.py [FOLDER]        (default: dlc/models)

writes `digits.onnx` (opset 17, input `image` float32 [batch, 1, 8, 8] with grey levels 0..16, output `logits`
float32 [batch, 10]) and `digits_test.npz` (`images` uint8 [600, 8, 8], `labels` uint8 [600]), the held-out
third of the data on which its accuracy is stated. Needs torch and scikit-learn; takes some 10 s on one core.

The data is scikit-learn's copy of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0). Weights are deterministic for one version
of torch on one kind of CPU; the accuracy hardly moves between versions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

SEED = 20
HELD_OUT = 600
EPOCHS = 60
BATCH = 64


class Digits(nn.Module):
    """conv 16 - conv 32 - pool - residual block of two conv 32 - conv 64 - mean - linear 10."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16)
        self.widen = ConvNorm(16, 32)
        self.block1 = ConvNorm(32, 32)
        self.block2 = ConvNorm(32, 32)
        self.top = ConvNorm(32, 64)
        self.classify = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.widen(torch.relu(self.stem(image / 16.0))))
        hidden = torch.max_pool2d(hidden, 2)
        hidden = torch.relu(hidden + self.block2(torch.relu(self.block1(hidden))))
        hidden = torch.relu(self.top(hidden)).mean(dim=(2, 3))
        logits: torch.Tensor = self.classify(hidden)
        return logits


class ConvNorm(nn.Sequential):
    """A 3 x 3 convolution with padding 1 and no bias, then batch normalization."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__(nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters))


def split() -> tuple[np.ndarray[Any, Any], ...]:
    """Training images and labels, test images and labels; images uint8 [n, 8, 8], labels uint8 [n]."""
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    images, labels = data.images.astype(np.uint8)[order], data.target.astype(np.uint8)[order]
    return images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT]


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by up to one pixel in each direction, the border filled with 0."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    rows = torch.randint(0, 3, (len(images), 1, 1), generator=generator) + torch.arange(8)[:, None]
    columns = torch.randint(0, 3, (len(images), 1, 1), generator=generator) + torch.arange(8)
    return padded[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def train(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Digits:
    """The trained network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    model = Digits()
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    x, y = torch.from_numpy(images).float()[:, None], torch.from_numpy(labels).long()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            logits = model(shifted(x[batch], generator))
            loss = nn.functional.cross_entropy(logits, y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def to_onnx(model: Digits) -> onnx.ModelProto:
    """The network as ONNX, written node by node so that its names are short and stable."""
    nodes, weights = [], []

    def constant(name: str, value: torch.Tensor | np.ndarray[Any, Any]) -> str:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        weights.append(numpy_helper.from_array(array, name))
        return name

    def node(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], name=f"{name}/{operator}", **attributes))
        return name

    def conv_norm(source: str, name: str) -> str:
        conv, norm = getattr(model, name)
        weight = constant(f"{name}.weight", conv.weight)
        hidden = node("Conv", [source, weight], f"{name}.conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        parameters = [
            constant(f"{name}.scale", norm.weight),
            constant(f"{name}.bias", norm.bias),
            constant(f"{name}.mean", norm.running_mean),
            constant(f"{name}.var", norm.running_var),
        ]
        return node("BatchNormalization", [hidden, *parameters], f"{name}.norm", epsilon=norm.eps)

    def relu(source: str) -> str:
        return node("Relu", [source], source.split(".")[0] + ".relu")

    hidden = node("Div", ["image", constant("grey_levels", np.array(16, np.float32))], "scaled")
    hidden = relu(conv_norm(relu(conv_norm(hidden, "stem")), "widen"))
    hidden = node("MaxPool", [hidden], "pool", kernel_shape=[2, 2], strides=[2, 2])
    block = conv_norm(relu(conv_norm(hidden, "block1")), "block2")
    hidden = relu(node("Add", [hidden, block], "residual"))
    hidden = node("GlobalAveragePool", [relu(conv_norm(hidden, "top"))], "mean")
    hidden = node("Flatten", [hidden], "features")
    weight = constant("classify.weight", model.classify.weight)
    bias = constant("classify.bias", model.classify.bias)
    node("Gemm", [hidden, weight, bias], "logits", transB=1)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
        doc_string="Handwritten digits, 8 x 8 grey levels 0..16; trained by examples/train_digits.py",
    )
    onnx_model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="dlc train_digits"
    )
    onnx.checker.check_model(onnx_model, full_check=True)
    return onnx_model


def main() -> None:
    """Train, report the accuracy on the held-out images and write both files."""
    default = Path(__file__).resolve().parent.parent / "dlc" / "models"
    parser = argparse.ArgumentParser(description="Train the demo model of dlc.")
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    folder = parser.parse_args().folder
    images, labels, test_images, test_labels = split()
    model = train(images, labels)
    with torch.no_grad():
        answers = model(torch.from_numpy(test_images).float()[:, None]).argmax(dim=1).numpy()
    print(f"accuracy on {len(test_labels)} held-out images: {np.mean(answers == test_labels):.2%}")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(model), folder / "digits.onnx")
    np.savez_compressed(folder / "digits_test.npz", images=test_images, labels=test_labels)


if __name__ == "__main__":
    main()

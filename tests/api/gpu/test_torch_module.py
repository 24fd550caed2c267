"""Torch modules compiled for a GPU, run under Triton's interpreter."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

pytest.importorskip("triton")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch

import dlc
from dlc.api.gpu.interpreted import InterpretedMachine
from dlc.api.torch.module import GpuModule
from dlc.errors import UnsupportedError


class Gate(torch.nn.Module):  # type: ignore[misc]
    """Two results in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, x: Any) -> dict[str, Any]:
        y = self.linear(x)
        return {"gate": torch.sigmoid(y), "sum": y.sum(dim=1)}


@pytest.fixture(scope="module")
def module() -> Any:
    torch.manual_seed(0)
    return Gate().eval()


@pytest.fixture(scope="module")
def compiled(module: Any) -> GpuModule:
    model = dlc.compile(
        module,
        example_inputs=(torch.randn(3, 6),),
        dynamic_shapes=({0: "batch"},),
        target="cuda:sm_90",
        cache=False,
    )
    assert isinstance(model, GpuModule)
    return model


def test_a_module_is_called_as_it_was(
    module: Any, compiled: GpuModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_open", lambda artifact: InterpretedMachine(artifact.functions))
    for batch in (3, 5):
        x = torch.randn(batch, 6)
        with torch.no_grad():
            wanted = module(x)
        found = compiled(x)
        assert list(found) == ["gate", "sum"]
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_a_pickled_module_is_one_for_a_gpu(compiled: GpuModule) -> None:
    restored = pickle.loads(pickle.dumps(compiled))
    assert isinstance(restored, GpuModule)
    assert restored.target == "cuda:sm_90"
    assert not torch.cuda.is_available()
    with pytest.raises(UnsupportedError, match="driver"):
        restored(torch.randn(3, 6))

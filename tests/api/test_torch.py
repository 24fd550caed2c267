"""torch modules: dlc.compile through torch.onnx, and the backend of torch.compile."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript, which is not installed")

import dlc  # noqa: E402
from dlc.errors import Error, InputError, UnsupportedError  # noqa: E402

nn = torch.nn


class Block(nn.Module):  # type: ignore[misc]
    """Attention and a perceptron, with results in a dictionary."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, x: Any) -> Any:
        h = self.norm(x).unsqueeze(1)
        a = nn.functional.scaled_dot_product_attention(h, h, h, is_causal=True).squeeze(1)
        return {"y": x + self.down(nn.functional.gelu(self.up(a))), "rows": x.shape[0]}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def compiled() -> tuple[Any, dlc.CompiledModel]:
    torch.manual_seed(1)
    module = Block().eval()
    x = torch.randn(2, 7, 16)
    shapes = ({0: "batch", 1: "time"},)
    return module, dlc.compile(module, example_inputs=x, dynamic_shapes=shapes, cache=False)


@pytest.mark.parametrize("shape", [(2, 7), (5, 3), (1, 1)])
def test_a_module_at_other_shapes(compiled: tuple[Any, Any], shape: tuple[int, int]) -> None:
    module, fast = compiled
    x = torch.randn(*shape, 16)
    found = fast(x)
    with torch.no_grad():
        torch.testing.assert_close(found["y"], module(x)["y"], rtol=1e-5, atol=1e-5)
    assert set(found) == {"y", "rows"} and found["rows"] == shape[0]


def test_a_module_is_pickled(compiled: tuple[Any, Any]) -> None:
    x = torch.randn(3, 4, 16)
    again = pickle.loads(pickle.dumps(compiled[1]))
    assert torch.equal(again(x)["y"], compiled[1](x)["y"])


def test_arguments_of_another_structure(compiled: tuple[Any, Any]) -> None:
    with pytest.raises(InputError):
        compiled[1](torch.randn(2, 3, 16), torch.randn(2))
    with pytest.raises(InputError):
        compiled[1]([torch.randn(2, 3, 16)])


@pytest.mark.parametrize("trainable", [nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.Dropout())])
def test_training_is_refused(trainable: Any) -> None:
    with pytest.raises(Error) as caught:
        dlc.compile(trainable.train(), example_inputs=torch.randn(3, 4), cache=False)
    assert caught.value.hint


def test_random_numbers_are_refused() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train().requires_grad_(False)
    with pytest.raises(UnsupportedError, match="random"):
        dlc.compile(module, example_inputs=torch.randn(3, 4), cache=False)


def test_numpy_arrays_as_examples() -> None:
    module = nn.Linear(4, 3).eval()
    x = torch.randn(2, 4)
    fast = dlc.compile(module, example_inputs={"input": x.numpy()}, cache=False)
    torch.testing.assert_close(fast(x), module(x).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(fast(x.numpy())), fast(x), rtol=0, atol=0)
    with pytest.raises(dlc.ShapeError, match="dynamic_shapes"):
        fast(torch.randn(3, 4))


def test_scripted_modules_are_refused() -> None:
    scripted = torch.jit.trace(nn.Linear(4, 3).eval(), torch.randn(2, 4))
    with pytest.raises(UnsupportedError, match="made from"):
        dlc.compile(scripted, example_inputs=torch.randn(2, 4), cache=False)


def test_a_module_needs_examples() -> None:
    with pytest.raises(InputError, match="example_inputs"):
        dlc.compile(nn.Linear(4, 4).eval())


def test_what_cannot_be_exported_is_named() -> None:
    class Special(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    with pytest.raises(UnsupportedError, match="bessel_j0"):
        dlc.compile(Special().eval(), example_inputs=torch.randn(3), cache=False)


# --- torch.compile


def test_the_backend_at_several_shapes() -> None:
    import dlc.torch  # noqa: F401

    module = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).eval()
    fast = torch.compile(module, backend="dlc", dynamic=True)
    with torch.no_grad():
        for rows in (3, 5, 9):
            x = torch.randn(rows, 8)
            torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)


def test_the_backend_sees_new_weights() -> None:
    from dlc.torch import backend

    module = nn.Linear(6, 3).eval()
    fast = torch.compile(module, backend=backend)
    x = torch.randn(2, 6)
    with torch.no_grad():
        before = fast(x)
        module.weight.mul_(2)
        after = fast(x)
        torch.testing.assert_close(after, module(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, after)


def test_what_the_backend_cannot_export_runs_eagerly_with_one_warning() -> None:
    from dlc.torch import backend

    def function(x: Any) -> Any:
        return torch.special.bessel_j0(torch.relu(x) + 1)

    fast = torch.compile(function, backend=backend)
    x = torch.randn(5)
    with warnings.catch_warnings(record=True) as heard, torch.no_grad():
        warnings.simplefilter("always")
        for _ in range(3):
            torch.testing.assert_close(fast(x), function(x), rtol=1e-5, atol=1e-5)
    assert sum("bessel_j0" in str(warning.message) for warning in heard) == 1


def test_the_backend_refuses_gradients_with_a_remedy() -> None:
    from dlc.torch import backend

    fast = torch.compile(Block(), backend=backend)
    with pytest.raises(UnsupportedError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast(torch.randn(2, 16))
    assert "no_grad" in (caught.value.hint or "")


def test_unknown_options_are_refused() -> None:
    from dlc.torch import backend

    fast = torch.compile(nn.Linear(4, 4).eval(), backend=backend, options={"no_such": 1})
    with pytest.raises(Exception, match="no_such"), torch.no_grad():
        fast(torch.randn(2, 4))

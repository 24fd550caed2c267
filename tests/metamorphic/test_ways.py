"""Compiled now or before, here or in another process: the same package, the same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dlc
from dlc.ir.graph import Node
from dlc.lowering import group
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.rules.registry import NotLowered, lower_node
from tests.helpers.model_zoo import assert_agrees, bits, host_nodes
from tests.metamorphic.rewrites import copied
from tests.models.architectures import named

NAMES = ("mobilenet", "llama", "lstm", "quantized")


@pytest.mark.parametrize("name", NAMES)
def test_the_compile_cache_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    model = named(name)
    with dlc.compile(model.source()) as cold, dlc.compile(model.source()) as cached:
        generated = ["generate" in dict(native.report().phases) for native in (cold, cached)]
        assert generated == [True, False]
        for binding in range(3):
            feeds = model.feeds(binding)
            assert bits(cached(feeds)) == bits(cold(feeds))
        assert cached.to_bytes() == cold.to_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_compiling_again_gives_equal_packages(name: str) -> None:
    with named(name).compile() as first, named(name).compile() as second:
        assert first.to_bytes() == second.to_bytes()


def test_other_processes_compile_equal_packages() -> None:
    """Whatever the seed of Python's hashes, which orders its sets."""
    model = named("mobilenet")
    program = (
        "import sys, hashlib, dlc\n"
        "model = dlc.compile(sys.argv[1], cache=False)\n"
        "print(hashlib.sha256(model.to_bytes()).hexdigest())"
    )
    with model.compile() as native:
        digests = {hashlib.sha256(native.to_bytes()).hexdigest()}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(model.source())],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(dlc.__file__).parents[1],
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_sources_of_all_kinds_give_equal_bits(tmp_path: Path) -> None:
    model = named("bert")
    content = model.source().read_bytes()
    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(content)
    feeds = model.feeds()
    with model.compile() as native:
        expected = bits(native(feeds))
    with open(path, "rb") as file:
        for source in (content, copied(model.proto()), str(path), file):
            with dlc.compile(source, cache=False) as native:
                assert bits(native(feeds)) == expected


def test_operators_on_the_host_agree_and_stay_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes without a kernel are evaluated in NumPy; no package can hold them."""

    def without_some(node: Node, names: Names) -> LoweredKernel:
        if node.op.name in ("LayerNorm", "Softmax", "Gemm", "MatMul"):
            raise NotLowered("left to the host by a test")
        return lower_node(node, names)

    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(group, "lower_node", without_some)
    model = named("bert")
    for _ in range(2):
        with dlc.compile(model.source()) as native:
            assert sum(host_nodes(native).values()) > 10
            for binding in range(3):
                assert_agrees(model, native(model.feeds(binding)), binding)

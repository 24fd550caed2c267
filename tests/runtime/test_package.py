"""Packages: round trips, determinism, and refusal of damaged, foreign and hostile ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import InputError, PackageError, ResourceError
from dlc.runtime.abi import ABI_VERSION
from dlc.runtime.archive import write_archive
from dlc.runtime.manifest import Constant, Manifest, ModelInfo, Symbol, TargetCode, TensorInfo
from dlc.runtime.package import EAGER_BYTES, MANIFEST, Content, Package, package_bytes, write_package

WEIGHTS = np.arange(1000, dtype=np.float32)
LARGE = np.random.default_rng(0).integers(0, 256, EAGER_BYTES + 1, np.uint8)
CODE = b"\x7fELF" + b"code" * 100


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_manifest() -> Manifest:
    return Manifest(
        dlc="0.1.0",
        model=ModelInfo("résumé \x1b[31m", sha256(b"model"), {"": 17, "ai.onnx.ml": 3}),
        inputs=(TensorInfo("x", "float32", ("batch", 3, "2*batch")), TensorInfo("past", "float32")),
        outputs=(TensorInfo("y", "int64", (7,)), TensorInfo("present", "float32")),
        targets=(
            TargetCode("x86-64-v4", "x86_64-linux", ABI_VERSION, ("code.v4.o",), ("avx2", "avx512f")),
            TargetCode("x86-64-v3", "x86_64-linux", ABI_VERSION, ("code.v3.o",), ("avx2",)),
        ),
        constants=(
            Constant("w", "weights.bin", 0, 4000, sha256(WEIGHTS.tobytes())),
            Constant("tail", "weights.bin", 3968, 32, sha256(WEIGHTS.tobytes()[3968:])),
        ),
        symbols=(Symbol("batch", 1, 64, "x", 0), Symbol("found")),
        alias={"past": "present"},
        options={"target": "native", "shapes": {"batch": [1, 8, 64]}},
        extra={"numerics": {"seed": 1, "error": 1e-7}},
    )


def make_members() -> dict[str, Content]:
    return {"code.v4.o": CODE + b"4", "code.v3.o": CODE, "weights.bin": WEIGHTS, "large.bin": LARGE}


def make_package() -> bytes:
    return package_bytes(make_manifest(), make_members())


def rewrite(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The package with a manifest that `change` edited as JSON, in a well-formed archive."""
    with Package.open(make_package()) as package:
        members = {name: package.member(name) for name in package.members}
    manifest = json.loads(bytes(members[MANIFEST]))
    change(manifest)
    members[MANIFEST] = memoryview(json.dumps(manifest).encode())
    return b"".join(write_archive(members))


@pytest.mark.parametrize("how", ["bytes", "mapped", "copied"])
def test_round_trip(tmp_path: Path, how: str) -> None:
    path = tmp_path / "model.dlc"
    write_package(make_manifest(), make_members(), path)
    assert path.read_bytes() == make_package()
    package = Package.open(path.read_bytes() if how == "bytes" else path, copy=how == "copied")
    read = package.manifest
    assert dataclasses.replace(read, digests={}) == make_manifest()
    assert set(read.digests) == set(make_members())
    assert package.members["weights.bin"] == 4000
    assert package.code(read.targets[0]) == [CODE + b"4"]
    for constant, expected in zip(read.constants, (WEIGHTS, WEIGHTS[992:])):
        view = package.constant(constant)
        assert view.readonly
        array = np.frombuffer(view, np.float32)
        assert array.ctypes.data % 64 == 0
        assert np.array_equal(array, expected)
    package.verify()
    package.close()
    assert np.array_equal(np.frombuffer(view, np.float32), expected)


def test_equal_inputs_give_equal_bytes() -> None:
    program = "import sys; from tests.runtime.test_package import *; sys.stdout.buffer.write(make_package())"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    assert other.stdout == make_package()


@pytest.mark.parametrize("dtype", [">f4", "<f4", "bfloat16", "bool", "int8"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_are_written_little_endian_in_c_order(dtype: str, shape: tuple[int, ...]) -> None:
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.arange(6)[: int(np.prod(shape))].reshape(shape).astype(kind)
    content = array.T if array.ndim == 2 else array
    manifest = dataclasses.replace(make_manifest(), targets=(), constants=())
    with Package.open(package_bytes(manifest, {"a": content})) as package:
        assert bytes(package.member("a")) == content.astype(kind.newbyteorder("<")).tobytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.dlc"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ResourceError, match="No space left"):
            write_package(make_manifest(), make_members(), path)
    with pytest.raises(PackageError):
        write_package(make_manifest(), {"../evil": b""}, path)
    with pytest.raises(ResourceError, match="cannot write"):
        write_package(make_manifest(), make_members(), tmp_path / "absent" / "model.dlc")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.dlc"]
    assert path.read_bytes() == b"old"


def test_the_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_package(make_manifest(), make_members(), tmp_path / "model.dlc")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "model.dlc").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_writing_checks_the_manifest_against_the_members() -> None:
    manifest, members = make_manifest(), make_members()
    with pytest.raises(PackageError, match=r"code\.v3\.o is missing"):
        package_bytes(manifest, {name: members[name] for name in members if name != "code.v3.o"})
    with pytest.raises(PackageError, match="out of bounds"):
        package_bytes(manifest, {**members, "weights.bin": WEIGHTS[:-1]})
    with pytest.raises(PackageError, match="written from the manifest"):
        package_bytes(manifest, {**members, MANIFEST: b"{}"})


# --- Damage ---------------------------------------------------------------------------------------


def _damaged(member: str) -> bytes:
    data = bytearray(make_package())
    with Package.open(bytes(data)) as package:
        content = bytes(package.member(member))
    data[bytes(data).index(content) + 10] ^= 1
    return bytes(data)


def test_damaged_code_is_never_handed_out() -> None:
    package = Package.open(_damaged("code.v4.o"))
    with pytest.raises(PackageError, match=r"code\.v4\.o is damaged"):
        package.code(package.manifest.targets[0])
    assert package.code(package.manifest.targets[1]) == [CODE]


def test_damaged_members_are_found_when_read_or_verified() -> None:
    small, large = _damaged("weights.bin"), _damaged("large.bin")
    with pytest.raises(PackageError, match=r"weights\.bin is damaged"):
        Package.open(small).member("weights.bin")
    package = Package.open(large)
    assert len(package.member("large.bin")) == len(LARGE)  # too large to hash at each load
    for check in (package.verify, lambda: Package.open(large, verify=True)):
        with pytest.raises(PackageError, match=r"large\.bin is damaged"):
            check()


def test_large_code_is_verified_whatever_its_size() -> None:
    target = TargetCode("native", "x86_64-linux", ABI_VERSION, ("large.bin",))
    manifest = dataclasses.replace(make_manifest(), targets=(target,), constants=())
    data = bytearray(package_bytes(manifest, {"large.bin": LARGE}))
    data[-5000] ^= 1
    with pytest.raises(PackageError, match=r"large\.bin is damaged"):
        Package.open(bytes(data)).code(target)


def test_random_damage_never_passes_verification() -> None:
    """Whatever byte changes: either a PackageError, or the same content."""
    data = make_package()
    rng = random.Random(1)
    directory = range(len(data) - 1000, len(data))
    for position in [*rng.sample(range(len(data)), 60), *rng.sample(directory, 60), *range(0, 60, 3)]:
        changed = bytearray(data)
        changed[position] ^= 1 << rng.randrange(8)
        with pytest.raises(PackageError):
            package = Package.open(bytes(changed), verify=True)
            # A change of the manifest may leave it valid: digests do not cover it.
            if package.manifest != Package.open(data).manifest:
                raise PackageError("the manifest changed")


def test_files_that_are_no_packages(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "text", "pipe"):
        with pytest.raises(PackageError):
            Package.open(tmp_path / name)
    for name in ("absent", "text/below"):
        with pytest.raises(InputError) as caught:
            Package.open(tmp_path / name)
        assert caught.value.code == "input/file"
    with pytest.raises(PackageError, match="not a regular file"):
        Package.open("/dev/zero")
    with pytest.raises(PackageError, match="not a regular file"):
        Package.open(tmp_path)


@pytest.mark.parametrize("copy", [False, True])
def test_a_file_that_is_truncated_while_it_is_open(tmp_path: Path, copy: bool) -> None:
    path = tmp_path / "model.dlc"
    path.write_bytes(make_package())
    package = Package.open(path, copy=copy)
    os.truncate(path, 4096)
    if copy:
        assert bytes(package.member("code.v3.o")) == CODE
    else:
        with pytest.raises(PackageError, match="truncated"):
            package.member("code.v3.o")


def test_a_removed_or_replaced_file_stays_usable(tmp_path: Path) -> None:
    path = tmp_path / "model.dlc"
    path.write_bytes(make_package())
    package = Package.open(path)
    write_package(dataclasses.replace(make_manifest(), targets=(), constants=()), {}, path)
    assert bytes(package.member("code.v3.o")) == CODE
    path.unlink()
    package.verify()


# --- Manifests ------------------------------------------------------------------------------------

MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda m: m.update(format=2),
    "no format": lambda m: m.pop("format"),
    "a format of another type": lambda m: m.update(format="1"),
    "an unknown field": lambda m: m.update(surprise=1),
    "a missing field": lambda m: m.pop("inputs"),
    "an object for a list": lambda m: m.update(inputs={}),
    "a list for an object": lambda m: m.update(alias=[]),
    "a number for a name": lambda m: m["inputs"][0].update(name=3),
    "a bool for a number": lambda m: m["symbols"][0].update(minimum=True),
    "a float for a number": lambda m: m["constants"][0].update(offset=0.0),
    "a huge number": lambda m: m["constants"][0].update(size=1 << 64),
    "null": lambda m: m["model"].update(sha256=None),
    "a negative offset": lambda m: m["constants"][0].update(offset=-64),
    "a negative size": lambda m: m["constants"][0].update(size=-1),
    "an unaligned constant": lambda m: m["constants"][0].update(offset=4),
    "a constant beyond its member": lambda m: m["constants"][1].update(size=33),
    "a constant that wraps around": lambda m: m["constants"][1].update(size=(1 << 63) - 1),
    "a constant in no member": lambda m: m["constants"][0].update(member="absent.bin"),
    "a constant in the manifest": lambda m: m["constants"][0].update(member=MANIFEST),
    "a path as a member": lambda m: m["constants"][0].update(member="../weights.bin"),
    "two constants of one name": lambda m: m["constants"][0].update(name="tail"),
    "two inputs of one name": lambda m: m["inputs"][0].update(name="past"),
    "two targets of one name": lambda m: m["targets"][0].update(name="x86-64-v3"),
    "a negative extent": lambda m: m["inputs"][0].update(shape=[-1]),
    "an alias of nothing": lambda m: m.update(alias={"past": "nothing"}),
    "a symbol of no input": lambda m: m["symbols"][0].update(input="nothing"),
    "a symbol of no axis": lambda m: m["symbols"][0].update(axis=3),
    "a symbol of a negative axis": lambda m: m["symbols"][0].update(axis=-1),
    "a symbol without an axis": lambda m: m["symbols"][0].update(axis=None),
    "an empty range": lambda m: m["symbols"][0].update(maximum=0),
    "code that is missing": lambda m: m["targets"][0].update(objects=["absent.o"]),
    "the manifest as code": lambda m: m["targets"][0].update(objects=[MANIFEST]),
    "a member without a digest": lambda m: m["digests"].pop("code.v3.o"),
    "a digest without a member": lambda m: m["digests"].update(absent="0" * 64),
    "a digest that is none": lambda m: m["digests"].update({"code.v3.o": "0" * 63}),
    "a digest of another kind": lambda m: m["digests"].update({"code.v3.o": "0" * 63 + "\n"}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_invalid_manifests_are_refused(name: str) -> None:
    with pytest.raises(PackageError):
        Package.open(rewrite(MANIFESTS[name]))


def test_rewriting_alone_is_no_reason_for_refusal() -> None:
    Package.open(rewrite(lambda manifest: None), verify=True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b'{"format": ' + b"1" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"format": 1' + b', "a": {"a": ' * 100_000,
        b"\xff\xfe",
        b'{"format": 1}',
    ],
)
def test_manifests_that_are_no_json(text: bytes) -> None:
    with pytest.raises(PackageError):
        Manifest.from_json(text)
    with pytest.raises(PackageError):
        Package.open(b"".join(write_archive({MANIFEST: memoryview(text)})))


def test_messages_escape_what_the_file_says() -> None:
    data = rewrite(lambda manifest: manifest.update({"\x1b[31m\n": 1}))
    with pytest.raises(PackageError) as caught:
        Package.open(data)
    assert str(caught.value).isprintable()


def test_a_package_without_a_manifest() -> None:
    with pytest.raises(PackageError, match="no usable manifest"):
        Package.open(b"".join(write_archive({"a": memoryview(b"")})))


def test_the_best_target_is_chosen() -> None:
    manifest = make_manifest()
    triple = "x86_64-unknown-linux-gnu"
    assert manifest.target_for(triple, {"avx2", "avx512f", "fma"}).name == "x86-64-v4"
    assert manifest.target_for(triple, {"avx2", "fma"}).name == "x86-64-v3"
    assert manifest.target_for(triple, {"avx2", "avx512f"}, "x86-64-v3").name == "x86-64-v3"
    with pytest.raises(PackageError, match="x86-64-v3 needs avx2"):
        manifest.target_for(triple, {"sse2"})
    with pytest.raises(PackageError, match="is for x86_64"):
        manifest.target_for("aarch64-linux", {"avx2"})
    with pytest.raises(PackageError, match="it has x86-64-v4, x86-64-v3"):
        manifest.target_for(triple, {"avx2"}, "cuda")
    older = dataclasses.replace(manifest.targets[0], abi=ABI_VERSION + 1)
    with pytest.raises(PackageError, match="interface version"):
        dataclasses.replace(manifest, targets=(older,)).target_for(triple, {"avx2", "avx512f"})


def test_reading_needs_neither_onnx_nor_networkx_nor_llvm() -> None:
    program = (
        "import sys; from dlc.runtime.package import Package\n"
        "print(sorted({'onnx', 'networkx', 'llvmlite', 'zipfile', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

"""External data: what a location may lead to, and how the bytes are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.errors import ExternalDataError, LimitError
from dlc.frontend.onnx.external import ExternalData
from dlc.frontend.onnx.importer import import_model
from dlc.frontend.onnx.tensors import TensorReader
from dlc.limits import Limits

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def external(
    location: str, shape: tuple[int, ...] = (2, 3), dtype: int = TensorProto.FLOAT, **entries: Any
) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def read(folder: Path | None, tensor: onnx.TensorProto, extra: Path | None = None) -> np.ndarray[Any, Any]:
    return TensorReader(ExternalData(folder, extra), Limits()).dense(tensor, "initializer 'w'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with weights in it, beside a secret."""
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    (inner / "w.bin").write_bytes(WEIGHTS.tobytes())
    (inner / "sub" / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    return inner


def test_whole_files_parts_and_subfolders(folder: Path) -> None:
    np.testing.assert_array_equal(read(folder, external("w.bin")), WEIGHTS)
    np.testing.assert_array_equal(read(folder, external("./sub/w.bin", length=24)), WEIGHTS)
    np.testing.assert_array_equal(read(folder, external("w.bin", (3,), offset=12, length=12)), WEIGHTS[1])


def test_the_mapping_is_read_only_and_survives_the_file(folder: Path) -> None:
    array = read(folder, external("w.bin"))
    (folder / "w.bin").unlink()
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, WEIGHTS)


def test_a_file_is_opened_once(folder: Path) -> None:
    data = ExternalData(folder)
    first = data.read({"location": "w.bin"}, 24, "w")
    (folder / "w.bin").write_bytes(b"another file")
    assert np.shares_memory(first, data.read({"location": "w.bin", "offset": "4"}, 8, "w"))


def test_unaligned_and_packed_content(folder: Path) -> None:
    (folder / "odd").write_bytes(b"\x00" + WEIGHTS.tobytes())
    array = read(folder, external("odd", offset=1))
    assert array.flags.aligned
    np.testing.assert_array_equal(array, WEIGHTS)
    (folder / "nibbles").write_bytes(b"\x21\x0f")
    assert read(folder, external("nibbles", (3,), TensorProto.INT4)).astype(int).tolist() == [1, 2, -1]


def test_the_users_folder_is_searched_too(folder: Path, tmp_path: Path) -> None:
    (folder / "w.bin").rename(tmp_path / "w.bin")
    with pytest.raises(ExternalDataError, match="does not exist"):
        read(folder, external("w.bin"))
    np.testing.assert_array_equal(read(folder, external("w.bin"), tmp_path), WEIGHTS)
    np.testing.assert_array_equal(read(None, external("w.bin"), tmp_path), WEIGHTS)


def test_a_model_without_a_folder_says_so() -> None:
    with pytest.raises(ExternalDataError, match=r"has no folder.*external_data_dir"):
        read(None, external("w.bin"))


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "sub/../../secret",
        "",
        ".",
        "sub",
        "/etc/hostname",
        "C:\\w.bin",
        "\\\\host\\w.bin",
        "w.bin\0",
        "w.bin/x",
    ],
)
def test_locations_that_lead_elsewhere(folder: Path, location: str) -> None:
    with pytest.raises(ExternalDataError):
        read(folder, external(location))


def test_links_are_followed_within_the_folder_only(folder: Path, tmp_path: Path) -> None:
    (folder / "inside").symlink_to("sub/w.bin")
    np.testing.assert_array_equal(read(folder, external("inside")), WEIGHTS)
    (folder / "outside").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    for location in ("outside", "up/secret", "loop"):
        with pytest.raises(ExternalDataError):
            read(folder, external(location))
    # The same file is fine where the user says so.
    np.testing.assert_array_equal(read(folder, external("outside"), tmp_path), WEIGHTS)


def test_only_regular_files_are_opened(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    for location in ("fifo", "device", "sub"):
        with pytest.raises(ExternalDataError):
            read(folder, external(location))


def test_hugging_face_snapshots_link_to_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--net"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123abcd" / "onnx"
    snapshot.mkdir(parents=True)
    (repository / "blobs" / "ffee").write_bytes(WEIGHTS.tobytes())
    (snapshot / "w.bin").symlink_to("../../../blobs/ffee")
    np.testing.assert_array_equal(read(snapshot, external("w.bin")), WEIGHTS)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(WEIGHTS.tobytes())
    (snapshot / "other").symlink_to("../../../refs/main")
    with pytest.raises(ExternalDataError, match="leads out of the folders"):
        read(snapshot, external("other"))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"offset": 4}, "reaches to byte 28"),
        ({"offset": 10**18}, "reaches to byte"),
        ({"offset": -4}, "'-4', not a number"),
        ({"offset": "9" * 5000}, "not a number"),
        ({"offset": "٣"}, "not a number"),
        ({"length": 12}, "takes 24 bytes, but 12 are declared"),
        ({"length": "x\x1b[31m"}, r"'x\\x1b\[31m', not a number"),
    ],
)
def test_offsets_and_lengths_are_checked(folder: Path, entries: dict[str, Any], problem: str) -> None:
    with pytest.raises(ExternalDataError, match=problem):
        read(folder, external("w.bin", **entries))


def test_declared_size_is_limited_before_the_file_is_opened(folder: Path) -> None:
    with pytest.raises(LimitError):
        read(folder, external("absent", (1 << 40,)))


def test_a_swap_of_a_folder_for_a_link_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race between resolving a path and opening it."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "w.bin").write_bytes(b"s" * 24)
    real = os.path.realpath

    def swapped(path: Any, **options: Any) -> str:
        resolved = real(path, **options)
        if str(path).endswith("sub/w.bin") and not (folder / "sub").is_symlink():
            (folder / "sub").rename(tmp_path / "old")
            (folder / "sub").symlink_to(target)
        return resolved

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(ExternalDataError, match="cannot be opened"):
        read(folder, external("sub/w.bin"))


def test_large_sparse_files_are_mapped_without_being_read(folder: Path) -> None:
    size = 3 << 30
    with open(folder / "big", "wb") as file:
        file.truncate(size)
    array = read(folder, external("big", (4,), offset=size - 16))
    assert array.tolist() == [0, 0, 0, 0]


def test_a_model_finds_its_weights(folder: Path) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")], [external("w.bin")])
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    (weight,) = import_model(path).graph.constants()
    np.testing.assert_array_equal(weight.data, WEIGHTS)
    with pytest.raises(ExternalDataError, match="initializer 'w'"):
        import_model(path.read_bytes())
    import_model(path.read_bytes(), external_data_dir=folder)

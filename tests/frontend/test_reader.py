"""Reading models: the wire scan, the guards around protobuf, and every encoding of tensors."""

from __future__ import annotations

import io
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, strategies as st
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import Error, InputError, LimitError, ModelError, UnsupportedError
from dlc.frontend.onnx.attributes import decode, decode_all
from dlc.frontend.onnx.external import ExternalData
from dlc.frontend.onnx.reader import parse, read_model
from dlc.frontend.onnx.tensors import ELEMENT_TYPES, TensorReader
from dlc.frontend.onnx.wire import scan
from dlc.ir.dtypes import DType
from dlc.limits import Limits

LIMITS = Limits()


def small_model() -> onnx.ModelProto:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="fc", alpha=0.5)
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    return helper.make_model(
        helper.make_graph([node], "g", [info], [onnx.ValueInfoProto(name="y")], [weight])
    )


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def nested(levels: int) -> bytes:
    """A ModelProto with If nodes within If nodes: graph (7) > node (1) > attribute (5) > graph (6)."""
    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


# --- the scan


def test_the_scan_accepts_what_protobuf_writes() -> None:
    scan(small_model().SerializeToString(), LIMITS)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\x0a", "truncated"),
        (b"\x3a\x05ab", "truncated"),
        (b"\x00\x01", "field has number 0"),
        (b"\x0b\x01\x0c", "wire type 3"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (b"\x09\x01\x02", "truncated"),
    ],
)
def test_the_scan_refuses_damaged_bytes(data: bytes, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        scan(data, LIMITS)
    assert caught.value.code == "model/protobuf"


def test_runs_of_numbers_are_checked_to_their_end() -> None:
    """The scan takes numbers with the same key many at a time."""
    integers = b"".join(b"\x40" + varint(3**power % 2**64) for power in range(3_000))
    floats = b"\x3d\xff\x80\x00\x3d" * 3_000
    for run in (integers, floats, integers + floats + b"\x40\x07"):
        scan(field(7, run), LIMITS)
        scan(field(7, run) + field(2, b"text"), LIMITS)
        for cut, problem in (
            (run + b"\x40\x80", "truncated"),
            (run + b"\x3d\x01\x02", "truncated"),
            (run + b"\x40" + b"\xff" * 11, "more than ten bytes"),
            (run + b"\x00", "number 0"),
        ):
            with pytest.raises(ModelError, match=problem):
                scan(field(7, cut), LIMITS)
        with pytest.raises(ModelError, match="truncated"):
            scan(field(7, run)[:-1], LIMITS)


def test_nesting_is_bounded_before_protobuf_sees_it() -> None:
    scan(nested(20), LIMITS)
    for levels in (80, 5_000):
        with pytest.raises(ModelError, match="nested deeper"):
            scan(nested(levels), LIMITS)
    with pytest.raises(ModelError, match="nested deeper"):
        scan(nested(20), Limits(depth=10))


def test_the_number_of_messages_is_bounded() -> None:
    # Two bytes a message: 8 MB of these would take gigabytes once parsed.
    data = field(7, field(1, b"") * 20_000)
    with pytest.raises(LimitError, match="too many messages"):
        scan(data, Limits(nodes=100))
    scan(data, LIMITS)


@given(st.binary(max_size=200))
def test_random_bytes_end_in_an_error_or_a_model(data: bytes) -> None:
    try:
        parse(data, LIMITS)
    except Error as error:
        assert error.code in ("model/protobuf", "limit")


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_ends_in_an_error_or_a_model(position: int, byte: int) -> None:
    data = bytearray(small_model().SerializeToString())
    data[position % len(data)] = byte
    try:
        parse(bytes(data), LIMITS)
    except Error as error:
        assert error.code in ("model/protobuf", "limit")


def test_every_truncation_is_found() -> None:
    data = small_model().SerializeToString()
    damaged = 0
    for length in range(len(data)):
        try:
            parse(data[:length], LIMITS)
        except ModelError:
            damaged += 1
    # Cuts between two top-level fields leave a shorter, but well-formed message.
    assert damaged > 0.9 * len(data)


def test_size_and_mode_of_sources() -> None:
    data = small_model().SerializeToString()
    with pytest.raises(LimitError, match="bytes of the model"):
        read_model(data, Limits(model_bytes=10))
    with pytest.raises(LimitError, match="bytes of the model"):
        read_model(io.BytesIO(data), Limits(model_bytes=10))
    with pytest.raises(InputError, match="binary mode"):
        read_model(io.StringIO("text"), LIMITS)  # type: ignore[arg-type]


# --- tensors


def reader() -> TensorReader:
    return TensorReader(ExternalData(None), LIMITS)


ALL_TYPES = [dtype for dtype in ELEMENT_TYPES.values() if dtype is not DType.STRING]


def sample(dtype: DType) -> np.ndarray[Any, Any]:
    """Five elements (an odd number, for packing) with both signs where the type has them."""
    numbers = np.array([0, 1, 1, 0, 1] if dtype in (DType.BOOL, DType.F8E8M0) else [1, 0, 1, 1, 0])
    if dtype in (DType.I2, DType.I4) or (dtype.is_float and dtype is not DType.F8E8M0):
        numbers = np.array([-2, -1, 0, 1, 1])
    elif dtype in (DType.U4, DType.I8, DType.I16, DType.I32, DType.I64):
        numbers = np.array([0, 7, 5, 3, 1]) * (-1 if dtype.kind.value == "signed" else 1)
    if dtype in (DType.C64, DType.C128):
        return (numbers + 2j).astype(dtype.numpy)
    return numbers.astype(dtype.numpy)


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=lambda dtype: dtype.text)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "field"])
def test_every_type_in_both_encodings(dtype: DType, raw: bool) -> None:
    number = next(key for key, value in ELEMENT_TYPES.items() if value is dtype)
    want = sample(dtype)
    if raw:
        proto = numpy_helper.from_array(want, "t")
    else:
        values = want.astype(np.complex128 if dtype.kind.value == "complex" else np.float64).tolist()
        if dtype.is_integer or dtype is DType.BOOL:
            values = [int(value) for value in values]
        proto = helper.make_tensor("t", number, want.shape, values)
    got = reader().dense(proto, "tensor 't'")
    assert got.dtype == want.dtype and got.shape == want.shape
    assert got.tobytes() == want.tobytes()
    assert not got.flags.writeable


def test_strings() -> None:
    proto = helper.make_tensor("t", TensorProto.STRING, [2], ["a", "ü"])
    assert reader().dense(proto, "t").tolist() == ["a", "ü"]
    proto.string_data[0] = b"\xff"
    with pytest.raises(ModelError, match="not UTF-8"):
        reader().dense(proto, "t")


def test_scalars_and_empty_tensors() -> None:
    scalar = numpy_helper.from_array(np.float32(3).reshape(()), "t")
    assert reader().dense(scalar, "t").shape == ()
    empty = helper.make_tensor("t", TensorProto.FLOAT, [2, 0, 3], [])
    assert reader().dense(empty, "t").shape == (2, 0, 3)


def altered(**changes: Any) -> onnx.TensorProto:
    proto = numpy_helper.from_array(np.ones((2, 3), np.float32), "t")
    for key, value in changes.items():
        if key == "dims":
            proto.ClearField("dims")
            proto.dims.extend(value)
        elif isinstance(value, list):
            getattr(proto, key).extend(value)
        else:
            setattr(proto, key, value)
    return proto


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"dims": [2, 4]}, ModelError, "24 bytes, but f32.* takes 32"),
        ({"dims": [2, -3]}, ModelError, "negative dimension"),
        ({"dims": [1 << 62, 4]}, LimitError, "elements of t"),
        ({"dims": [0, 1 << 62]}, LimitError, "elements of t"),
        ({"dims": [1] * 40}, LimitError, "rank of t"),
        ({"dims": [1 << 36]}, LimitError, "bytes of t"),
        ({"data_type": 0}, ModelError, "element type 0"),
        ({"data_type": 99}, ModelError, "element type 99"),
        ({"data_type": 27}, UnsupportedError, "FLOAT6E2M3"),
        ({"data_type": TensorProto.STRING}, ModelError, "strings as raw bytes"),
        ({"float_data": [1.0]}, ModelError, "more than once"),
        ({"data_location": TensorProto.EXTERNAL}, ModelError, "more than once"),
    ],
)
def test_contradictory_tensors(changes: dict[str, Any], error: type[Error], problem: str) -> None:
    with pytest.raises(error, match=problem):
        reader().dense(altered(**changes), "t")


@pytest.mark.parametrize(
    ("proto", "problem"),
    [
        (TensorProto(data_type=TensorProto.FLOAT, dims=[2], float_data=[1.0]), "1 elements in float_data"),
        (
            TensorProto(data_type=TensorProto.FLOAT, dims=[1], int32_data=[1]),
            "in int32_data instead of float_data",
        ),
        (TensorProto(data_type=TensorProto.INT8, dims=[1], int32_data=[300]), "does not fit i8"),
        (TensorProto(data_type=TensorProto.UINT32, dims=[1], uint64_data=[1 << 40]), "does not fit u32"),
        (TensorProto(data_type=TensorProto.INT4, dims=[3], int32_data=[1]), "1 elements in int32_data"),
    ],
)
def test_contradictory_fields(proto: onnx.TensorProto, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        reader().dense(proto, "t")


def test_weights_are_counted_together() -> None:
    tensors = TensorReader(ExternalData(None), Limits(weight_bytes=40))
    tensors.dense(altered(), "first")
    with pytest.raises(LimitError, match="bytes of all weights, up to second"):
        tensors.dense(altered(), "second")


def sparse(indices: Any, dims: list[int], values: list[float] | None = None) -> onnx.SparseTensorProto:
    array = np.asarray(indices, np.int64)
    numbers = np.asarray(values if values is not None else range(1, len(array) + 1), np.float32)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(numbers, "s"), numpy_helper.from_array(array, "i"), dims
    )


def test_sparse_tensors_with_linear_and_per_axis_indices() -> None:
    want = [[0, 0, 1], [2, 0, 0]]
    for indices in ([2, 3], [[0, 2], [1, 0]]):
        assert reader().sparse(sparse(indices, [2, 3]), "s").tolist() == want


@pytest.mark.parametrize(
    ("proto", "error", "problem"),
    [
        (sparse([6], [2, 3]), ModelError, "outside of its shape"),
        (sparse([-1], [2, 3]), ModelError, "outside of its shape"),
        (sparse([[0, 3]], [2, 3]), ModelError, "outside of its shape"),
        (sparse([1, 1], [2, 3]), ModelError, "occurs twice"),
        (sparse([1, 2], [2, 3], [1.0]), ModelError, "but indices of shape"),
        (sparse([1], [1 << 20, 1 << 10]), LimitError, "dense bytes of s"),
    ],
)
def test_contradictory_sparse_tensors(
    proto: onnx.SparseTensorProto, error: type[Error], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        reader().sparse(proto, "s")


# --- attributes


def test_attributes_of_every_kind() -> None:
    graph = helper.make_graph([], "body", [], [])
    node = helper.make_node(
        "Any", [], [], f=0.5, i=-3, s="text", t=numpy_helper.from_array(np.ones(2, np.float32)), g=graph,
        fs=[1.0, 2.5], is_=[1, 2], ss=["a", "b"],
    )  # fmt: skip
    values = decode_all(node.attribute, reader(), {})
    assert values["f"] == 0.5 and values["i"] == -3 and values["s"] == "text"
    assert values["fs"] == [1.0, 2.5] and values["is_"] == [1, 2] and values["ss"] == ["a", "b"]
    assert values["t"].tolist() == [1, 1] and values["g"].name == "body"


def test_small_float_attributes_hold_what_was_written() -> None:
    attribute = helper.make_attribute("t", numpy_helper.from_array(np.ones(3, ml_dtypes.bfloat16)))
    assert decode(attribute, reader()).dtype == ml_dtypes.bfloat16


def test_the_type_of_an_attribute_of_the_first_ir_version_is_implied() -> None:
    attribute = helper.make_attribute("a", 3)
    attribute.type = onnx.AttributeProto.UNDEFINED
    assert decode(attribute, reader()) == 3
    attribute.f = 1.0
    with pytest.raises(ModelError, match="declares no type and holds 2 values"):
        decode(attribute, reader())


def test_contradictory_attributes() -> None:
    attribute = helper.make_attribute("a", 3)
    attribute.type = onnx.AttributeProto.FLOAT
    with pytest.raises(ModelError, match="declared as f, but holds i"):
        decode(attribute, reader())
    with pytest.raises(ModelError, match="'a' occurs twice"):
        decode_all([helper.make_attribute("a", 3), helper.make_attribute("a", 4)], reader(), {})
    with pytest.raises(ModelError, match="'s' is not UTF-8"):
        decode(helper.make_attribute("s", b"\xff\xfe"), reader())

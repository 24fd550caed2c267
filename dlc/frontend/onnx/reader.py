"""From a source (path, bytes, file, ModelProto) to a parsed model, with guards before any work is spent on
it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from dlc.errors import InputError, ModelError, printable
from dlc.frontend.onnx.wire import scan
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import ModelProto

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | ModelProto"

_PIECE = 64 << 20
_LARGEST_MESSAGE = (1 << 31) - 1


@dataclasses.dataclass(frozen=True)
class SourceModel:
    """A parsed model: its message, the folder of its file (None when it came as bytes), a name and a digest.

    `sha256` is that of the file or message; external data are not part of it.
    """

    proto: ModelProto
    folder: Path | None
    name: str
    sha256: str


def read_model(source: Source, limits: Limits) -> SourceModel:
    """Parse `source` within `limits`.

    Raises InputError (code "input/file") when it cannot be read, ModelError (code "model/protobuf") when it
    is no ONNX model, LimitError when it is larger than `limits.model_bytes`.
    """
    from onnx import ModelProto

    if isinstance(source, ModelProto):
        digest = _checked_digest(source, limits)
        return SourceModel(source, None, source.graph.name, digest)
    folder, name = None, ""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        data = _read_file(path, limits)
        folder, name = path.parent, path.stem
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif hasattr(source, "read"):
        data = _read_stream(source, limits)
    else:
        raise InputError(
            f"a model is a path, bytes, a file or an onnx.ModelProto, not {type(source).__name__}"
        )
    limits.check("model_bytes", len(data), "bytes of the model")
    proto = parse(data, limits)
    return SourceModel(proto, folder, name or proto.graph.name, hashlib.sha256(data).hexdigest())


def parse(data: bytes, limits: Limits) -> ModelProto:
    """The ModelProto in `data`; ModelError when it is damaged, nested too deeply or holds no graph."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    scan(data, limits)
    try:
        proto: ModelProto = ModelProto.FromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"this is no ONNX model: {printable(str(error))}", code="model/protobuf") from None
    if not proto.HasField("graph"):
        raise ModelError("this is no ONNX model: it holds no graph", code="model/protobuf")
    return proto


def _read_file(path: Path, limits: Limits) -> bytes:
    shown = printable(str(path))
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"'{shown}' is not a regular file", code="input/file")
            limits.check("model_bytes", os.fstat(file.fileno()).st_size, f"bytes of '{shown}'")
            return _read_stream(file, limits)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read '{shown}': {printable(str(reason))}", code="input/file") from None


def _read_stream(file: IO[bytes], limits: Limits) -> bytes:
    """The content of `file`, or a little more than the limit allows; in pieces, as its end is unknown."""
    pieces: list[bytes] = []
    size = 0
    while size <= limits.model_bytes and (piece := file.read(_PIECE)):
        if not isinstance(piece, bytes):
            raise InputError("the file must be opened in binary mode", code="input/file")
        pieces.append(piece)
        size += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without waiting for the other end of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _checked_digest(proto: ModelProto, limits: Limits) -> str:
    """The digest of a message that somebody else parsed, scanned like a file.

    In parts where it is too large to serialize as one: protobuf ends at 2 GiB.
    """
    digest = hashlib.sha256()
    if proto.ByteSize() < _LARGEST_MESSAGE:
        data = proto.SerializeToString(deterministic=True)
        scan(data, limits)
        digest.update(data)
        return digest.hexdigest()
    graph = proto.graph
    for part in (*graph.initializer, *graph.node, *proto.functions, *graph.input, *graph.output):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()

"""The operator sets that an ONNX file declares, read without the package ``onnx``.

An ONNX file is one protobuf message, ``ModelProto``. Of its fields only ``opset_import`` is read; the others, the graph
among them, are skipped by their length. Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OPSET_IMPORT = 8  # ModelProto.opset_import
DOMAIN, VERSION = 1, 2  # of OperatorSetIdProto
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


def declared_opsets(path: Path) -> dict[str, int]:
    """Version of each operator set; the default one has the name ''.

    Raises:
        ValueError: The file is no protobuf message.
    """
    opsets = {}
    for number, value in _fields(path.read_bytes()):
        if number == OPSET_IMPORT and isinstance(value, bytes):
            entry = dict(_fields(value))
            domain, version = entry.get(DOMAIN, b""), entry.get(VERSION, 0)
            if isinstance(domain, bytes) and isinstance(version, int):
                opsets[domain.decode()] = version
    return opsets


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field; fixed-width values come as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = _varint(data, at)
        elif kind in (FIXED_64, FIXED_32):
            size = 8 if kind == FIXED_64 else 4
        else:
            raise ValueError(f"byte {at}: a protobuf field has wire type 0, 1, 2 or 5, got {kind}")
        if at + size > len(data):
            raise ValueError(f"byte {at}: a field of {size} bytes goes beyond the end of the file ({len(data)} bytes)")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for shift, byte in enumerate(data[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise ValueError(f"byte {at}: a protobuf number does not end")

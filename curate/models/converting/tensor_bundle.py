"""Read the variables of a TensorFlow checkpoint (a "tensor bundle") without TensorFlow.

    variables.index: an SSTable, name -> BundleEntry (type, shape, offset, size)
    variables.data-00000-of-00001: the numbers, one after the other

Bytes are read and nothing is executed. Only what Keras writes for small networks is known: one data
file, uncompressed blocks, float32; all else is refused.

Source: tensorflow/core/protobuf/tensor_bundle.proto; LevelDB, doc/table_format.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

_MAGIC = bytes.fromhex("57fb808b247547db")  # end of every SSTable
_FOOTER_BYTES = 48
_DT_FLOAT = 1  # tensorflow/core/framework/types.proto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def read_bundle(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read the float32 variables of a bundle by name; counters and lookup tables are left out.

    Raises:
        ValueError: the bytes are no bundle, or one of a kind that is not known here.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, entry in _read_table(index):
        fields = _last_fields(entry)
        if not name or fields.get(1, 0) != _DT_FLOAT:
            continue
        shape = _shape(fields.get(2, b""))
        offset, size = int(fields.get(4, 0)), int(fields.get(5, 0))
        if fields.get(3, 0) or size != 4 * math.prod(shape) or offset + size > len(data):
            raise ValueError(f"{name} of shape {shape} at {offset} does not lie in the data file")
        values = np.frombuffer(data, "<f4", math.prod(shape), offset)
        tensors[name] = values.reshape(shape).astype(np.float32)
    return tensors


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protocol buffer, in order.

    Raises:
        ValueError: the message is cut or uses a wire type that no field here has.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a protocol buffer is cut")
                yield tag >> 3, message[at : at + length]
                at += length
            case 1 | 5 as wire:
                at += 8 if wire == _FIXED64 else 4  # checksums, which nothing here reads
            case wire:
                raise ValueError(f"wire type {wire} is unknown")


def _last_fields(message: bytes) -> Mapping[int, int | bytes]:
    return dict(read_fields(message))


def _shape(message: int | bytes) -> tuple[int, ...]:
    """Read a TensorShapeProto: repeated dim (2), each with its size (1)."""
    assert isinstance(message, bytes), "shape is a message"
    dims = [value for number, value in read_fields(message) if number == 2]
    return tuple(int(_last_fields(dim).get(1, 0)) for dim in dims if isinstance(dim, bytes))


def _read_table(table: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (key, value) of an SSTable: its index block names the data blocks."""
    if len(table) < _FOOTER_BYTES or not table.endswith(_MAGIC):
        raise ValueError("the index is no SSTable")
    footer = table[-_FOOTER_BYTES:]
    _, _, at = _handle(footer, 0)  # of the meta index, which is empty
    offset, size, _ = _handle(footer, at)
    for _, handle in _read_block(table, offset, size):
        start, length, _ = _handle(handle, 0)
        for key, value in _read_block(table, start, length):
            yield key.decode(), value


def _read_block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block; a key shares a prefix with the one before."""
    if size < 4 or offset + size >= len(table) or table[offset + size] != 0:
        raise ValueError("a block is cut or compressed")
    block = table[offset : offset + size]
    (num_restarts,) = struct.unpack_from("<I", block, size - 4)
    end = size - 4 * (num_restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return offset, size, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read seven bits a byte, lowest first: (value, position after it)."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number is cut")

"""Write small ONNX networks by hand: the wire format of protobuf, and the few fields they need.

Source: onnx/onnx.proto (field numbers), protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_FLOAT = 1  # TensorProto.FLOAT
_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def write_pooling(
    path: Path, side: int, cell: int, batch: int | str = "N", channels: int = 3
) -> None:
    """Write a network that averages cells of a picture: [N, 3, side, side] -> [N, 3 * cells]."""
    pool = _node("AveragePool", "pixels", "cells", {"kernel_shape": [cell] * 2,
                                                    "strides": [cell] * 2})  # fmt: skip
    flat = _node("Flatten", "cells", "out", {"axis": 1})
    width = channels * (side // cell) ** 2
    graph = _message(1, pool) + _message(1, flat) + _message(2, b"pooling")
    graph += _message(11, _value("pixels", [batch, channels, side, side]))
    graph += _message(12, _value("out", [batch, width]))
    opset = _varint_field(2, 17)
    path.write_bytes(_varint_field(1, 8) + _message(7, graph) + _message(8, opset))


def _node(kind: str, source: str, target: str, attributes: dict[str, int | list[int]]) -> bytes:
    data = _message(1, source.encode()) + _message(2, target.encode()) + _message(4, kind.encode())
    for name, value in attributes.items():
        data += _message(5, _attribute(name, value))
    return data


def _attribute(name: str, value: int | list[int]) -> bytes:
    data = _message(1, name.encode())
    if isinstance(value, int):
        return data + _varint_field(3, value) + _varint_field(20, _INT)
    return data + b"".join(_varint_field(8, item) for item in value) + _varint_field(20, _INTS)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        _message(1, _message(2, size.encode()) if isinstance(size, str) else _varint_field(1, size))
        for size in shape
    )
    tensor = _varint_field(1, _FLOAT) + _message(2, dims)
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _message(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

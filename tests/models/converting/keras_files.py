"""Write a Keras SavedModel's files for tests: the same bytes' layout as TensorFlow's, by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
MAGIC = bytes.fromhex("57fb808b247547db")


def write_saved_model(
    folder: Path,
    layers: Sequence[tuple[Array, Array]],
    mean: Array,
    variance: Array,
    vocabularies: Mapping[int, Sequence[str]],
    names: Sequence[str] | None = None,
) -> Path:
    """Write a head: kernels [in, out], biases, normalization, words of encoded dimensions."""
    (folder / "variables").mkdir(parents=True)
    variables: dict[str, Array] = {
        "layer_with_weights-1/mean": mean,
        "layer_with_weights-1/variance": variance,
    }
    for number, (kernel, bias) in enumerate(layers, start=2):
        variables[f"layer_with_weights-{number}/kernel"] = kernel
        variables[f"layer_with_weights-{number}/bias"] = bias
    index, data = bundle({f"{k}/.ATTRIBUTES/VARIABLE_VALUE": v for k, v in variables.items()})
    (folder / "variables" / "variables.index").write_bytes(index)
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(data)
    encoding = ["int" if dim in vocabularies else "none" for dim in range(len(mean))]
    dense = [name for _ in layers for name in ("Dense", "ReLU")][:-1]
    chain = names or ["InputLayer", "Custom>MultiCategoryEncoding", "Normalization", *dense]
    configs = [{"class_name": name, "config": {"encoding": encoding}} for name in chain]
    configs.append({"class_name": "Activation", "config": {"activation": "sigmoid"}})
    model = json.dumps({"config": {"layers": configs}}).encode()
    (folder / "keras_metadata.pb").write_bytes(field(1, field(5, model)))
    (folder / "saved_model.pb").write_bytes(graph(list(vocabularies.values())))
    return folder


def bundle(tensors: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """Give (index, data) of a tensor bundle: one block, no shared prefixes."""
    entries, data = [(b"", field(1, 1))], b""
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = b"".join(field(2, number(1, size)) for size in tensor.shape)
        entry = number(1, 1) + field(2, shape) + number(4, len(data)) + number(5, tensor.nbytes)
        entries.append((name.encode(), entry + b"\x35\0\0\0\0"))  # a checksum, fixed32
        data += tensor.astype("<f4").tobytes()
    rows = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
    )
    blocks = block(rows)
    handle = varint(0) + varint(len(rows) + 8)
    at = len(blocks)
    index_rows = varint(0) + varint(1) + varint(len(handle)) + b"z" + handle
    blocks += block(index_rows)
    footer = varint(0) + varint(0) + varint(at) + varint(len(index_rows) + 8)
    return blocks + footer.ljust(40, b"\0") + MAGIC, data


def graph(vocabularies: Sequence[Sequence[str]]) -> bytes:
    """Give a SavedModel whose graph fills one table with each vocabulary."""
    nodes = b""
    for place, words in enumerate(vocabularies):
        keys = b"".join(field(8, word.encode()) for word in words)
        values = field(4, np.arange(1, len(words) + 1, dtype="<i8").tobytes())
        for name, tensor in ((f"keys{place}", keys), (f"values{place}", values)):
            attribute = field(1, b"value") + field(2, field(8, tensor))
            node = field(1, name.encode()) + field(2, b"Const") + field(5, attribute)
            nodes += field(1, node)
        inputs = b"".join(
            field(3, text.encode()) for text in ("t", f"keys{place}", f"values{place}")
        )
        nodes += field(1, field(1, b"call") + field(2, b"StatefulPartitionedCall") + inputs)
    return field(2, field(2, nodes))


def block(rows: bytes) -> bytes:
    """End a block: one restart, no compression, a checksum that nothing reads."""
    return rows + struct.pack("<II", 0, 1) + b"\0" + b"\0\0\0\0"


def field(tag: int, message: bytes | int) -> bytes:
    """Give a length-delimited field."""
    data = message if isinstance(message, bytes) else bytes([message])
    return varint(tag << 3 | 2) + varint(len(data)) + data


def number(tag: int, value: int) -> bytes:
    """Give a varint field."""
    return varint(tag << 3) + varint(value)


def varint(value: int) -> bytes:
    """Give seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

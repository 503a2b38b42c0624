"""Read LAION's detectors of unsafe content, Keras SavedModels by AutoKeras, without TensorFlow.

    keras_metadata.pb  the layers by name, as JSON: encoding, normalization, Dense, ReLU, sigmoid
    variables/         their numbers (tensor_bundle.py)
    saved_model.pb     the vocabularies of the dimensions that are encoded, constants of the graph

Nothing is executed. Only this chain of layers is known; any other is refused. The normalization is
folded into the first Dense layer. Scores equal those of TensorFlow 2.21 on the same files to 1e-5
(tests/models/test_keras_saved.py holds its outputs).

Source: tensorflow/core/protobuf/{saved_model,meta_graph}.proto, framework/{graph,node_def,tensor}
.proto, python/keras/protobuf/saved_metadata.proto.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ModelError
from curate.models.converting.tensor_bundle import read_bundle, read_fields
from curate.models.mlp_head import DECIMALS, Layer, MlpHead

GRAPH, KERAS = "saved_model.pb", "keras_metadata.pb"
INDEX, DATA = "variables/variables.index", "variables/variables.data-00000-of-00001"
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_EPSILON = 1e-7  # of keras.backend.epsilon(), below which no deviation is divided by
_INERT = ("InputLayer", "Dropout")  # layers that change nothing
_CHAIN = ("Custom>MultiCategoryEncoding", "Normalization")  # what the Dense layers come after


def is_saved_model(path: Path) -> bool:
    """Tell whether a folder or a zip file holds a SavedModel."""
    if path.is_dir():
        return (path / GRAPH).is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(PurePosixPath(name).name == GRAPH for name in archive.namelist())


def read_keras_head(path: Path) -> MlpHead:
    """Read a head from a folder or the zip file that LAION publishes.

    Raises:
        ModelError: a file is missing or damaged, or the network is of another kind.
    """
    read = _reader(path)
    try:
        layers = _read_layer_list(read(KERAS))
        tensors = read_bundle(read(INDEX), read(DATA))
        encoded = _encoded_dimensions(layers)
        words = list(read_vocabularies(read(GRAPH)))
        if len(words) != len(encoded):
            raise ValueError(f"{len(encoded)} dimensions are encoded by {len(words)} vocabularies")
        dense = _fold(_normalization(tensors), _dense_layers(layers, tensors))
    except (ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path}: must be a Keras SavedModel of encoding, normalization, Dense and ReLU layers "
            f"and a sigmoid, got {error}; take LAION's clip_autokeras_*.zip"
        ) from error
    return MlpHead(
        layers=dense,
        activation="sigmoid",
        vocabularies=dict(zip(encoded, words, strict=True)),
    )


def read_vocabularies(graph: bytes) -> Iterator[NDArray[np.int32]]:
    """Yield the known values of each encoded dimension, in the order of their numbers from 1 on.

    A call that fills a table has three inputs: the table, its keys (texts), its values (numbers).
    Tables come in the order of the encoded dimensions.
    """
    nodes = [_Node(node) for node in _path(graph, 2, 2, 1)]  # meta graph, graph, nodes
    constants = {node.name: node for node in nodes if node.op == "Const"}
    for node in nodes:
        if node.op != "StatefulPartitionedCall" or len(node.inputs) != 3:
            continue
        keys, values = (constants[name].tensor for name in node.inputs[1:])
        texts = [text for number, text in read_fields(keys) if number == 8]  # string_val
        numbers = np.frombuffer(_bytes(dict(read_fields(values))[4]), "<i8")  # tensor_content
        if not np.array_equal(numbers, np.arange(1, len(texts) + 1)):
            raise ValueError("a vocabulary is not numbered from 1 on")
        yield np.array([round(float(text) * 10**DECIMALS) for text in texts], np.int32)


class _Node:
    """Hold what matters of a NodeDef: name (1), op (2), inputs (3), a constant's tensor (5)."""

    def __init__(self, message: bytes) -> None:
        fields = list(read_fields(message))
        self.inputs = [_text(value) for number, value in fields if number == 3]
        self.name, self.op = (
            next((_text(value) for number, value in fields if number == wanted), "")
            for wanted in (1, 2)
        )
        self._attributes = [value for number, value in fields if number == 5]

    @property
    def tensor(self) -> bytes:
        """Give the TensorProto of the attribute "value"."""
        for attribute in self._attributes:
            entry = dict(read_fields(_bytes(attribute)))
            if entry.get(1) == b"value":
                return _bytes(dict(read_fields(_bytes(entry[2])))[8])
        raise ValueError(f"{self.name} holds no tensor")


def _reader(path: Path) -> Callable[[str], bytes]:
    """Give a function that reads a file of the model by its name within the model's folder."""
    if path.is_dir():
        return lambda name: _read_file(path / name)

    def read(name: str) -> bytes:
        with zipfile.ZipFile(path) as archive:
            found = [item for item in archive.namelist() if f"/{item}".endswith(f"/{name}")]
            if len(found) != 1:
                raise ValueError(f"{len(found)} files {name}")
            return archive.read(found[0])

    return read


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"no file {path.name}")
    return path.read_bytes()


def _read_layer_list(metadata: bytes) -> list[Mapping[str, Any]]:
    """Read the network's layers: the first saved object (1) is the model, its text (5) JSON."""
    model = json.loads(_bytes(dict(read_fields(next(_path(metadata, 1), b"")))[5]))
    layers = [layer for layer in model["config"]["layers"] if layer["class_name"] not in _INERT]
    names = tuple(layer["class_name"] for layer in layers)
    dense = names[len(_CHAIN) : -1]
    alternating = tuple(itertools.islice(itertools.cycle(["Dense", "ReLU"]), len(dense)))
    is_known = names[: len(_CHAIN)] == _CHAIN and dense == alternating and dense[-1:] == ("Dense",)
    if not is_known or layers[-1]["config"].get("activation") != "sigmoid":
        raise ValueError(f"the layers {', '.join(names)}")
    return layers


def _encoded_dimensions(layers: Sequence[Mapping[str, Any]]) -> list[int]:
    encoding = layers[0]["config"]["encoding"]
    if set(encoding) - {"none", "int"}:
        raise ValueError(f"the encodings {sorted(set(encoding))}")
    return [dimension for dimension, kind in enumerate(encoding) if kind == "int"]


def _normalization(
    tensors: Mapping[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give mean and deviation: [D] each."""
    mean, variance = (
        tensors[f"layer_with_weights-1/{name}{_VARIABLE}"].astype(np.float64)
        for name in ("mean", "variance")
    )
    return mean, np.maximum(np.sqrt(variance), _EPSILON)


def _dense_layers(
    layers: Sequence[Mapping[str, Any]], tensors: Mapping[str, NDArray[np.float32]]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give weight [out, in] and bias [out] of each Dense layer."""
    count = sum(layer["class_name"] == "Dense" for layer in layers)
    first = len(_CHAIN)  # Keras numbers the layers that have weights
    return [
        (
            tensors[f"layer_with_weights-{first + number}/kernel{_VARIABLE}"].T.astype(np.float64),
            tensors[f"layer_with_weights-{first + number}/bias{_VARIABLE}"].astype(np.float64),
        )
        for number in range(count)
    ]


def _fold(
    normalization: tuple[NDArray[np.float64], NDArray[np.float64]],
    dense: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> list[Layer]:
    """Fold (x - mean) / deviation into the first layer: W' = W / deviation, b' = b - W' mean."""
    mean, deviation = normalization
    weight, bias = dense[0]
    folded = weight / deviation
    whole = [(folded, bias - folded @ mean), *dense[1:]]
    return [
        (np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32))
        for weight, bias in whole
    ]


def _path(message: bytes, *numbers: int) -> Iterator[bytes]:
    """Yield the messages that lie below a path of field numbers."""
    for number, value in read_fields(message):
        if number == numbers[0]:
            found = _bytes(value)
            yield from _path(found, *numbers[1:]) if numbers[1:] else [found]


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where a message should")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()

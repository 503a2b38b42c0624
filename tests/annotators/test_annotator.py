from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.annotators.annotator import Annotator, Batch, Column, measure
from curate.core.errors import SampleError


def make_batch(*widths: int) -> Batch:
    return Batch(
        keys=[f"{index:020x}" for index in range(len(widths))],
        images=[Image.new("RGB", (width, 8)) for width in widths],
        captions=["a cat"] * len(widths),
        columns={"seen.width": np.array(widths)},
    )


class Touchy:
    """Measures widths; a width of 1 is a fault of the sample."""

    name = "touchy"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {"touchy.width": pa.int32()}

    def __init__(self, fault: Callable[[], Exception]) -> None:
        self._fault = fault

    def setup(self) -> None:
        pass

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        if any(image.width == 1 for image in batch.images):
            raise self._fault()
        return {"touchy.width": np.array([image.width for image in batch.images])}


def test_touchy_is_an_annotator() -> None:
    annotator: Annotator = Touchy(lambda: SampleError("bad"))
    assert annotator.roles == ()


@pytest.mark.parametrize("fault", [SampleError("bad"), OSError("bad"), ValueError("bad")])
def test_one_bad_sample_becomes_null_and_the_others_keep_their_values(fault: Exception) -> None:
    found = measure(Touchy(lambda: fault), make_batch(5, 1, 7))
    assert found == {"touchy.width": [5, None, 7]}


def test_a_fault_of_every_sample_is_the_annotators_and_is_raised() -> None:
    with pytest.raises(ValueError, match="wrong shape"):
        measure(Touchy(lambda: ValueError("wrong shape")), make_batch(1, 1))


def test_a_sample_error_of_every_sample_is_no_fault_of_the_annotator() -> None:
    found = measure(Touchy(lambda: SampleError("bad")), make_batch(1, 1))
    assert found == {"touchy.width": [None, None]}


def test_a_lone_bad_sample_becomes_null() -> None:
    assert measure(Touchy(lambda: ValueError("bad")), make_batch(1)) == {"touchy.width": [None]}


def test_faults_of_the_machine_are_never_a_samples() -> None:
    with pytest.raises(MemoryError):
        measure(Touchy(MemoryError), make_batch(5, 1))


def test_taking_one_sample_takes_its_columns_too() -> None:
    one = make_batch(5, 6, 7).take(1)
    assert one.images[0].width == 6
    assert list(one.columns["seen.width"]) == [6]

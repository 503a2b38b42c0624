"""The stream in PyTorch's own data loaders: one order, and a state that goes on exactly."""

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from curate.core.errors import ConfigError
from curate.core.store import LocalStore
from train.batches import RawBatch
from train.data import BatchReader, LatentSet
from train.mix import CaptionMix
from train.stream import LatentStream

MIX = CaptionMix(weights={"alt": 0.5, "detailed": 0.5}, dropout_frac=0.1)
NUM_STEPS = 11


def make_reader(folder: Path, batch_size: int = 4) -> BatchReader:
    data = LatentSet([(LocalStore(folder), 1.0)])
    return BatchReader(data, data.plan(batch_size, 0), MIX, 0)


@pytest.fixture
def folder(make_encoded: Any) -> Path:
    return make_encoded({"64x64": 20, "32x64": 7}).tar_path("00000").parent


def make_stream(folder: Path, **options: Any) -> LatentStream:
    make = functools.partial(make_reader, folder)
    return LatentStream(make, **{"end_step": NUM_STEPS} | options)


def digest(raw: RawBatch) -> tuple[Any, ...]:
    tokens = raw.texts["main"].tokens
    return raw.step, raw.keys, raw.sources, float(raw.latents.sum()), float(tokens.sum())


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_order_is_the_same_for_any_number_of_workers(folder: Path, num_workers: int) -> None:
    alone = [digest(raw) for raw in make_stream(folder)]
    assert [step for step, *_ in alone] == list(range(NUM_STEPS))
    loader = DataLoader(make_stream(folder), batch_size=None, num_workers=num_workers)
    assert [digest(raw) for raw in loader] == alone


def test_state_goes_on_at_every_step(folder: Path) -> None:
    alone = [digest(raw) for raw in make_stream(folder)]
    for step in range(NUM_STEPS):
        stream = make_stream(folder)
        batches = iter(stream)
        assert [digest(raw) for raw in itertools.islice(batches, step)] == alone[:step]
        resumed = make_stream(folder)
        resumed.load_state_dict(stream.state_dict())
        assert [digest(raw) for raw in resumed] == alone[step:]


def test_second_epoch_of_a_data_loader_begins_again(folder: Path) -> None:
    stream = make_stream(folder)
    once = [digest(raw) for raw in stream]
    assert [digest(raw) for raw in stream] == once


def test_state_of_another_plan_is_refused(folder: Path) -> None:
    other = LatentStream(functools.partial(make_reader, folder, 8)).state_dict()
    with pytest.raises(ConfigError, match="stream state: must be of this plan"):
        make_stream(folder).load_state_dict(other)


@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_torchdata_resumes_exactly(folder: Path, num_workers: int) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def make() -> Any:
        return torchdata.StatefulDataLoader(
            make_stream(folder), batch_size=None, num_workers=num_workers
        )

    alone = [digest(raw) for raw in make_stream(folder)]
    for step in (1, 4, 7):
        loader = make()
        batches = iter(loader)
        assert [digest(next(batches)) for _ in range(step)] == alone[:step]
        state = loader.state_dict()
        del batches
        resumed = make()
        resumed.load_state_dict(state)
        assert [digest(raw) for raw in resumed] == alone[step:]

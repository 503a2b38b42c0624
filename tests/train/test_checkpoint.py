from pathlib import Path

import pytest
import torch

from curate.core.errors import StageError
from train.checkpoint import Checkpoint, find_checkpoint, save_checkpoint

IDENTITY = {"seed": 0, "weights": {"alt": 0.5}}


def make_checkpoint(samples_seen: int) -> Checkpoint:
    return Checkpoint(
        samples_seen=samples_seen,
        tensors={"model/a.b": torch.full((3,), float(samples_seen)), "ema/a.b": torch.zeros(3)},
        lines=[{"samples_seen": 1, "loss": 0.5}],
        identity=IDENTITY,
    )


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(8))
    found = find_checkpoint(tmp_path, IDENTITY)
    assert found is not None
    assert found.samples_seen == 8
    assert found.lines == [{"samples_seen": 1, "loss": 0.5}]
    assert found.part("model")["a.b"].tolist() == [8.0] * 3


def test_newest_wins_and_two_are_kept(tmp_path: Path) -> None:
    for samples_seen in (9, 10, 200):
        save_checkpoint(tmp_path, make_checkpoint(samples_seen))
    found = find_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.samples_seen == 200
    assert len(list(tmp_path.iterdir())) == 2


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "absent", IDENTITY) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "lost", "record"])
def test_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    newest = save_checkpoint(tmp_path, make_checkpoint(2))
    tensors, record = newest / "state.safetensors", newest / "state.json"
    data = bytearray(tensors.read_bytes())
    if damage == "cut":
        tensors.write_bytes(data[:-4])
    elif damage == "flip":
        data[-1] ^= 1
        tensors.write_bytes(data)
    elif damage == "lost":
        tensors.unlink()
    else:
        record.write_text(record.read_text()[:20])
    found = find_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.samples_seen == 1


def test_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1)).rename(tmp_path / ".partial")
    assert find_checkpoint(tmp_path, IDENTITY) is None
    save_checkpoint(tmp_path, make_checkpoint(2))
    assert not (tmp_path / ".partial").exists()


def test_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    with pytest.raises(StageError, match="equal seed, got 1 instead of 0"):
        find_checkpoint(tmp_path, IDENTITY | {"seed": 1})

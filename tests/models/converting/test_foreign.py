"""Others' weights: read without running anything, refused by name where that is not possible."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.core.errors import ModelError
from curate.models.converting.foreign import file_sha256, read_foreign
from curate.models.weights import write_tensors


class Intruder:
    """Would make a folder if it were unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("wrapper", ["", "state_dict", "weights", "model"])
def test_tensors_are_found_in_what_a_training_script_saved(tmp_path: Path, wrapper: str) -> None:
    tensors = {"module.layer.weight": torch.ones(2), "module.layer.bias": torch.zeros(1)}
    saved = {wrapper: tensors, "epoch": 3} if wrapper else tensors
    torch.save(saved, tmp_path / "file.pt")
    found = read_foreign(tmp_path / "file.pt")
    assert found.keys() == {"layer.weight", "layer.bias"}
    assert torch.equal(found["layer.weight"], torch.ones(2))


def test_npz_and_safetensors_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", weight=np.arange(3.0))
    write_tensors(tmp_path / "file.safetensors", {"weight": torch.arange(3.0)})
    for name in ("file.npz", "file.safetensors"):
        assert read_foreign(tmp_path / name)["weight"].tolist() == [0, 1, 2]


def test_a_pickle_of_more_than_tensors_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Intruder(tmp_path / "made")}, tmp_path / "file.pt")
    with pytest.raises(ModelError, match=r"file\.pt: a pickle must hold nothing but tensors, got a "
                       r"call of posix\.mkdir; it was not run") as caught:  # fmt: skip
        read_foreign(tmp_path / "file.pt")
    assert not (tmp_path / "made").exists()
    assert "\n" not in str(caught.value)


def test_an_npz_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", weight=np.array([Intruder(tmp_path / "made")], object))
    with pytest.raises(ModelError, match="must be an npz of numbers"):
        read_foreign(tmp_path / "file.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"not weights at all", b"", b"PK\x03\x04 cut", b"\x80\x02."])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ModelError, match="must be safetensors, npz or a PyTorch file") as caught:
        read_foreign(tmp_path / "file.pth")
    assert "\n" not in str(caught.value)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "file.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="must hold tensors by name, got none"):
        read_foreign(tmp_path / "file.pt")
    with pytest.raises(ModelError, match="must hold tensors by name, got list"):
        read_foreign(tmp_path / "list.pt")


def test_a_torchscript_archive_is_opened_only_if_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(torch.nn.Linear(3, 2)).save(str(path))
    with pytest.raises(ModelError, match="a TorchScript archive is a program and must be one that"):
        read_foreign(path)
    assert read_foreign(path, [file_sha256(path)]).keys() == {"weight", "bias"}


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = file_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_sha256(tmp_path) != before
    with pytest.raises(ModelError, match="must exist, got nothing"):
        file_sha256(tmp_path / "none")

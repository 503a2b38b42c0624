import subprocess
import sys

import pytest

from curate.core.errors import ConfigError
from train.config import TrainConfig
from train.reading import ReadConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "unet"}, "train.backbone must be one of sd3, got 'unet'"),
        ({"precision": "fp16"}, "train.precision must be one of bf16, fp32"),
        ({"null_caption": "empty"}, "train.null_caption must be one of zeros"),
        ({"batch_size": 0}, "train.batch_size must be > 0, got 0"),
        ({"muon_lr": -1.0}, "train.muon_lr must be > 0"),
        ({"muon_lr": float("nan")}, "train.muon_lr must be > 0, got nan"),
        ({"warmup_samples": -1}, "train.warmup_samples must be >= 0"),
        ({"caption_dropout_frac": 1.0}, r"train.caption_dropout_frac must be in \[0, 1\)"),
        ({"other_stores": {"a": 0.0}}, "train.other_stores: weights must be > 0, got 0.0 for a"),
        ({"caption_weights": {}}, "train.caption_weights must be >= 0 with a positive sum"),
        ({"caption_weights": {"alt": -1.0, "short": 2.0}}, "train.caption_weights must be >= 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TrainConfig(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_threads": -1}, "train.reading.num_threads must be >= 0, got -1"),
        ({"io": "read"}, "train.reading.io must be one of preadv, mmap, got 'read'"),
        ({"verify": "often"}, "train.reading.verify must be one of never, sampled, always"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReadConfig(**changes)


def test_samples_are_rounded_up_to_whole_batches() -> None:
    assert TrainConfig(num_samples=97, batch_size=32).num_steps == 4


def test_config_and_stages_import_without_torch() -> None:
    code = "import sys, train.stage, train.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

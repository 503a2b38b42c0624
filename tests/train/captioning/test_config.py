"""The config of a fit refuses what cannot be run, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from curate.core.errors import ConfigError
from train.captioning.config import FitConfig, LoraOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "qlora"}, "method: must be one of lora, full, got 'qlora'"),
        ({"batch_size": 0}, "batch_size: must be >= 1, got 0"),
        ({"micro_batch_size": 0}, "micro_batch_size: must be >= 1, got 0"),
        ({"num_epochs": 0}, "num_epochs: must be > 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: must be > 0, got nan"),
        ({"warmup_frac": 1.0}, "warmup_frac: must be in"),
        ({"weight_decay": -0.1}, "weight_decay >= 0, got"),
    ],
)
def test_a_value_out_of_range_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        FitConfig(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_sizes_of_an_update_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lora: rank >= 1"):
        LoraOptions(**fields)


def test_updates_are_counted_in_whole_batches_and_at_least_one() -> None:
    config = FitConfig(num_epochs=2.5, batch_size=8)
    assert [config.num_steps(count) for count in (1, 8, 80)] == [1, 2, 25]

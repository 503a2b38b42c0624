import json

import pytest
import torch

from train.metrics import LossMeter, to_jsonl


def test_losses_fall_into_their_timestep_bin() -> None:
    meter = LossMeter(4)
    meter.add(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([0.1, 0.2, 0.99]), torch.tensor(2.0))
    meter.add(torch.tensor([4.0]), torch.tensor([1.0]), torch.tensor(4.0))
    assert meter.read() == {"loss": 4.0, "loss_bins": [2.0, None, None, 6.0], "grad_norm": 3.0}


def test_reading_starts_anew() -> None:
    meter = LossMeter(1)
    meter.add(torch.tensor([5.0]), torch.tensor([0.5]), torch.tensor(1.0))
    meter.read()
    meter.add(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor(1.0))
    assert meter.read()["loss"] == 1.0


def test_state_continues_the_sums() -> None:
    meter, other = LossMeter(2), LossMeter(2)
    meter.add(torch.tensor([1.0]), torch.tensor([0.2]), torch.tensor(1.0))
    other.load_state(meter.state())
    for one in (meter, other):
        one.add(torch.tensor([2.0]), torch.tensor([0.7]), torch.tensor(2.0))
    assert meter.read() == other.read()


@pytest.mark.parametrize("value", [0.123456789, None, [1.0, None]])
def test_lines_are_json(value: object) -> None:
    lines = to_jsonl([{"loss": value}, {"loss": 1.0}]).splitlines()
    assert [json.loads(line) for line in lines] == [{"loss": value}, {"loss": 1.0}]

"""The order of samples: permutations, one an epoch, by position alone."""

from __future__ import annotations

from train.captioning.order import Pick, SampleOrder

KEYS = [f"key{index:02d}" for index in range(20)]


def test_an_epoch_has_every_sample_once() -> None:
    order = SampleOrder(KEYS, seed=0)
    for epoch in range(3):
        picks = order.picks(epoch * 20, 20)
        assert sorted(pick.index for pick in picks) == list(range(20))
        assert {pick.epoch for pick in picks} == {epoch}


def test_epochs_and_seeds_have_their_own_orders() -> None:
    first = [pick.index for pick in SampleOrder(KEYS, seed=0).picks(0, 40)]
    other = [pick.index for pick in SampleOrder(KEYS, seed=1).picks(0, 20)]
    assert first[:20] != first[20:]
    assert first[:20] != other


def test_a_pick_depends_on_its_position_alone() -> None:
    straight = SampleOrder(KEYS, seed=0).picks(0, 60)
    assert SampleOrder(KEYS, seed=0).picks(33, 10) == straight[33:43]
    order = SampleOrder(KEYS, seed=0)
    assert [order.picks(at, 1)[0] for at in (59, 3, 41)] == [straight[at] for at in (59, 3, 41)]


def test_the_place_of_a_key_in_the_list_does_not_matter() -> None:
    backward = KEYS[::-1]
    straight = [KEYS[pick.index] for pick in SampleOrder(KEYS, seed=0).picks(0, 30)]
    assert [backward[p.index] for p in SampleOrder(backward, seed=0).picks(0, 30)] == straight


def test_one_sample_recurs() -> None:
    assert SampleOrder(["only"], seed=0).picks(0, 2) == [
        Pick(index=0, epoch=0),
        Pick(index=0, epoch=1),
    ]

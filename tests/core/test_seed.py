"""Draws depend on names alone."""

from __future__ import annotations

from curate.core.seed import derive_seed, make_rng


def test_equal_names_give_equal_draws() -> None:
    first = make_rng(1, "noise", "key", 3).standard_normal(4)
    assert (make_rng(1, "noise", "key", 3).standard_normal(4) == first).all()


def test_every_name_matters() -> None:
    seeds = {
        derive_seed(0, "a", "b"),
        derive_seed(1, "a", "b"),
        derive_seed(0, "ab"),
        derive_seed(0, "b", "a"),
        derive_seed(0, "a", "b", 0),
        derive_seed(0, "a", 1),
        derive_seed(0, "a", "1"),
    }
    assert len(seeds) == 7


def test_the_derivation_never_moves() -> None:
    assert derive_seed(0, "noise", "key", 0) == 8413211927713160455

"""The report says of every image-text model whether it knows a caption from a stranger's."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from eval.report_matching import measure_matching

COLUMNS = [
    (f"{model}.{name}", pa.float32())
    for model in ("clip", "clip_l14")
    for name in ("similarity", "similarity_other")
]


def make_annotate(make_shards: Any, toy: Any, *rows: tuple[float | None, ...]) -> Any:
    names = [name for name, _ in COLUMNS]
    return make_shards(
        "annotate",
        [
            {"key": toy.key(str(number)), **dict(zip(names, row, strict=True))}
            for number, row in enumerate(rows)
        ],
        COLUMNS,
    )


def test_each_model_has_its_own_row_over_what_it_measured(make_shards: Any, toy: Any) -> None:
    annotate = make_annotate(
        make_shards,
        toy,
        (0.75, 0.25, 0.5, 0.5),
        (0.5, 0.0, 0.5, 0.5),
        (0.25, 0.5, 0.5, None),
        (None, None, None, None),
    )
    clip, other = measure_matching(annotate)
    assert (clip.model, clip.num, clip.mean_own, clip.mean_other) == ("clip", 3, 0.5, 0.25)
    assert clip.auc == pytest.approx((3 + 2.5 + 1.5) / 9)
    assert (other.model, other.num, other.auc) == ("clip_l14", 2, 0.5)


def test_a_model_that_measured_nothing_has_no_row(make_shards: Any, toy: Any) -> None:
    assert measure_matching(make_annotate(make_shards, toy, (None, None, None, None))) == []
    assert measure_matching(None) == []

"""Tasks that read miniatures run again when these change, though the hashes stay."""

from __future__ import annotations

import pytest

from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.generations import Generation
from curate.stages.duplicates.layout import Layout


@pytest.mark.parametrize(
    ("config", "is_read"),
    [({"crop_radius": 8}, True), ({"pdq_radius": 31, "pdq_change": 0.3}, True), ({}, False)],
)
def test_near_tasks_know_the_miniatures_that_they_read(
    config: dict[str, float], is_read: bool
) -> None:
    generation = Generation(number=0, shards=("00000",))
    layout = Layout([generation], {"00000": 5}, DedupConfig(**config))
    (group,) = layout.groups
    same = layout.same_tasks({group.name: "hashes"})
    written = {task.shard: "equal" for tasks in same for task in tasks}
    one, other = (
        [task.inputs for task in layout.near_tasks(same, {**written, group.name: digest})[0]]
        for digest in ("miniatures", "others")
    )
    assert one
    assert (one != other) == is_read

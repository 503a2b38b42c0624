"""Every preset loads, names stages of the table, and models that exist."""

from __future__ import annotations

import pytest

from curate.models.packs import PACKS
from pipelines.request import parse_request, preset_names
from pipelines.table import STAGES


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_loads_and_its_stages_have_their_inputs(name: str) -> None:
    request = parse_request([f"pipeline={name}"])
    assert request.config.models in PACKS
    assert request.chosen
    for stage in request.chosen:
        assert set(STAGES[stage].reads) <= set(request.chosen)


def test_stage_ranges_and_lists_follow_the_table() -> None:
    assert parse_request(["pipeline=demo", "stage=annotate..dedup"]).chosen == (
        "annotate",
        "repeats",
        "filter",
        "dedup",
    )
    assert parse_request(["pipeline=demo", "stage=dedup,filter"]).chosen == ("filter", "dedup")

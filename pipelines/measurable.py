"""Refuse a filter that judges what no annotator of the run measures, before hours of annotating."""

from __future__ import annotations

from curate.annotators.table import is_annotator, runnable
from curate.core.errors import ConfigError
from curate.stages.filtering.columns import stage_of
from curate.stages.filtering.rules_in_force import columns_of, put_in_force
from pipelines.request import Request, find_models


def check_measurable(request: Request) -> None:
    """Hold the columns of the filter against the annotators that will run before it.

    Only the names of annotators are compared; filter itself refuses a field that none of them has,
    and all that is missing where annotate has run before.

    Raises:
        ConfigError: the pack cannot measure a column, or `annotate.annotators` leaves it out.
        ModelError: the pack is unknown, or its files are missing.
    """
    if not {"annotate", "filter"} <= set(request.chosen):
        return
    config = request.config
    able = runnable(find_models("annotate", config.models, config.models_folder))
    chosen = config.annotate.annotators or able
    for column, key in columns_of(put_in_force(config.filter, {})).items():
        name = column.partition(".")[0]
        if stage_of(column) != "annotate" or not is_annotator(name):
            continue
        if name not in able:
            raise ConfigError(
                f"{key}: needs column {column}, which models={config.models} cannot measure; "
                f"choose another models= or switch {key} off"
            )
        if name not in chosen:
            raise ConfigError(
                f"{key}: needs column {column}, which annotate.annotators leaves out; "
                f"add {name} or switch {key} off"
            )

"""Refuse a run whose evaluation sets are missing or broken, before anything is downloaded.

decontaminate reads them again, hours later; a line that breaks its form is known now.
"""

from __future__ import annotations

from pathlib import Path

from curate.stages.matching.benchmark_config import require_benchmarks
from curate.stages.matching.benchmark_files import open_pictures
from curate.stages.matching.benchmark_prompts import digest_prompts
from curate.stages.matching.prompt_sets import read_prompts
from pipelines.config import TOYWEB
from pipelines.request import DECONTAMINATE, Request


def check_benchmarks(request: Request) -> None:
    """Find the pictures of all evaluation sets and read their prompts; no picture is decoded.

    Raises:
        ConfigError: decontaminate is to run, and no set is named.
        DataError: a set is missing or empty, or a line of its prompts breaks their form.
    """
    if DECONTAMINATE not in request.chosen:
        return
    config = request.config.decontaminate
    if request.config.input == TOYWEB and not config.benchmarks:
        return  # it brings its own, see `inputs.py`
    require_benchmarks(config)
    for name, benchmark in config.benchmarks.items():
        if benchmark.pictures:
            open_pictures(name, benchmark.pictures, config.shard_size)
        if benchmark.prompts:
            digest_prompts(name, Path(benchmark.prompts))
            read_prompts(Path(benchmark.prompts), benchmark.format)

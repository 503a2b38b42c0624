"""The short version of `make kills`: a few SIGKILLs at random moments change no byte."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_kills_at_random_moments_change_no_byte(engine: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.kills",
            "--kills",
            "4",
            "--shards",
            "5",
            "--engine",
            engine,
        ],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["differing"] == []
    assert facts["killed"]["client"] + facts["killed"]["worker"] == 4

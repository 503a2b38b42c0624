"""The command line starts without what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "open_clip", "diffusers", "distributed", "matplotlib")


def loaded(code: str) -> list[str]:
    """Run code in a fresh interpreter and list the heavy modules it loaded."""
    script = (
        f"import sys, json\n{code}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_core_imports_without_torch() -> None:
    names = [path.stem for path in Path("curate/core").glob("[a-z]*.py")]
    assert len(names) >= 12
    assert loaded("\n".join(f"import curate.core.{name}" for name in names)) == []


def test_the_config_of_every_stage_imports_without_torch() -> None:
    assert loaded("import pipelines.config, pipelines.table, pipelines.run, pipelines.inputs") == []


def test_help_loads_neither_arrow_nor_numpy() -> None:
    code = "import pipelines.cli\nsys.argv = ['curate', '--help']\npipelines.cli.main()"
    extra = "\nassert not {'numpy', 'pyarrow', 'omegaconf'} & set(sys.modules)"
    assert loaded(code + extra) == []


def test_status_loads_json_only(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"pipeline": "demo", "stages": ["ingest"]}')
    argv = ["curate", "status", f"out={tmp_path}"]
    code = f"import pipelines.cli\nsys.argv = {argv!r}\npipelines.cli.main()"
    extra = "\nassert not {'numpy', 'pyarrow', 'omegaconf'} & set(sys.modules)"
    assert loaded(code + extra) == []

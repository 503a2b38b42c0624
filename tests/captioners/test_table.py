"""The table of captioners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curate.captioners.table import load_captioner
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vlm, imagenet_classes"):
        load_captioner(ModelRef(kind="oracle", paths=(tmp_path,)))


def test_table_imports_without_torch() -> None:
    code = (
        "import sys, curate.captioners.table, curate.captioners.template; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

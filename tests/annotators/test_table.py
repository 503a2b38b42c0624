import subprocess
import sys
from pathlib import Path

import pytest

from curate.annotators.annotator import Options
from curate.annotators.table import ANNOTATORS, runnable
from curate.models.packs import ROLES, ModelRef

REF = ModelRef(kind="none", paths=(Path("nowhere"),))
PACK: dict[str, ModelRef] = {role: REF for role in ROLES}


def test_without_models_only_the_cheap_annotators_run() -> None:
    cheap = ["pixels", "hashes", "phash", "pdq", "caption_text", "caption_repair"]
    assert runnable({}) == cheap


def test_heads_need_the_model_whose_embeddings_they_read() -> None:
    assert "watermark" not in runnable({"watermark": REF})
    assert "watermark" in runnable({"watermark": REF, "image_text": REF})


def test_a_full_pack_runs_everything_in_table_order() -> None:
    assert runnable(PACK) == list(ANNOTATORS)


@pytest.mark.parametrize("name", list(ANNOTATORS))
def test_columns_carry_the_annotators_name(name: str) -> None:
    annotator = ANNOTATORS[name](PACK, Options())
    assert annotator.name == name
    assert all(column.startswith(f"{name}.") for column in annotator.columns)


def test_no_two_annotators_write_the_same_column() -> None:
    names = [column for build in ANNOTATORS.values() for column in build(PACK, Options()).columns]
    assert len(names) == len(set(names))


def test_building_all_annotators_imports_no_torch() -> None:
    code = (
        "import sys; from curate.annotators.table import runnable; runnable({}); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

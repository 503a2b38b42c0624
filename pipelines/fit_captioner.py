"""Run `curate fit-captioner`: fine-tune a vision-language model on shards of (image, caption).

    captioner folder -> loaded -> samples collected -> measured on held-out ones
    -> LoRA beside its linear layers, or its weights freed -> fitted, with checkpoints
    -> adapter saved, merged, model saved -> loaded again as recaption loads it -> measured again

The first step of DALL-E 3's recipe (Betker et al. 2023, section 3): a captioner learns a style from
a small set of good captions, then writes it for all pictures (`curate run stage=recaption`).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.captioners.instructions import TEMPLATES
from curate.core.config import load_config
from curate.core.errors import ConfigError, ModelError
from curate.core.lock import claim_out
from curate.core.model_ref import ModelRef
from curate.core.store import LocalStore
from curate.models.packs import FOLDER_PACKS, PACKS, load_pack
from pipelines.fitting.config import FitCaptionerConfig

if TYPE_CHECKING:
    from curate.captioners.vlm import VlmCaptioner
    from pipelines.fitting.lessons import Lessons
    from train.captioning.loop import OnStep


def parse_config(arguments: Sequence[str]) -> FitCaptionerConfig:
    """Read `key=value` texts.

    Raises:
        ConfigError: an unknown key, a value out of range, or a template that there is not.
    """
    config = load_config(FitCaptionerConfig, [], arguments)
    names = [name for name, template in TEMPLATES.items() if not template.uses_draft]
    if config.template not in names:
        raise ConfigError(
            f"template: must be one of {', '.join(names)}, got {config.template!r}; choose one"
        )
    return config


def find_captioner(captioner: str, models_folder: str = "") -> ModelRef:
    """Find the folder that `captioner=` names: itself, or the captioner of a pack.

    Raises:
        ModelError: there is none, or it is of a kind that cannot be fitted.
    """
    if not (captioner in (*PACKS, *FOLDER_PACKS) or captioner.endswith((".yaml", ".yml"))):
        if not Path(captioner).is_dir():
            raise ModelError(
                f"captioner: must be a folder, a .yaml file or one of {', '.join(PACKS)}, "
                f"got {captioner}; give the folder of a transformers model"
            )
        return ModelRef(kind="vlm", paths=(Path(captioner),))
    ref = load_pack(captioner, models_folder).get("captioner")
    if ref is None or ref.kind != "vlm":
        found = "none" if ref is None else f"one of kind {ref.kind!r}"
        raise ModelError(
            f"captioner: pack {captioner!r} must have one of kind 'vlm' to be fitted, got {found}; "
            "give the folder of a transformers model"
        )
    return ref


def fit_captioner(config: FitCaptionerConfig, on_step: OnStep | None = None) -> Iterator[str]:
    """Fit a captioner, going on where an earlier run was stopped; yield lines that say how it went.

    Args:
        config: the run.
        on_step: called after every update.

    Raises:
        ConfigError, DataError, ModelError, StoreError: what the user has to mend.
        StageError: a gradient that is no number, or a checkpoint of another fit in `out`.
    """
    from pipelines.fitting.folder import MODEL, naming_full_disk

    ref, out = find_captioner(config.captioner, config.models_folder), Path(config.out)
    with naming_full_disk(out), claim_out(LocalStore(out)):
        yield from _run(config, ref, out, on_step)
    yield f"captioner: {out / MODEL}"


def _run(
    config: FitCaptionerConfig, ref: ModelRef, out: Path, on_step: OnStep | None
) -> Iterator[str]:
    """Do all steps; a fit that is done is only told again."""
    from curate.captioners.teaching import Teacher
    from curate.captioners.vlm import VlmCaptioner
    from curate.captioners.vlm_families import check_templates
    from pipelines.fitting.folder import RECORD, WORK, read_record, to_json
    from pipelines.fitting.lessons import Lessons
    from pipelines.fitting.record import check_same, describe_record, describe_samples, make_facts
    from pipelines.fitting.samples import collect

    template = TEMPLATES[config.template]
    captioner = VlmCaptioner(ref)
    check_templates(captioner.vlm.model_type, [template])
    teacher = Teacher(captioner)
    samples = collect(
        config, lambda text: teacher.tokenize(text, template.max_new_tokens), out / WORK
    )
    yield describe_samples(samples)
    facts = make_facts(config, captioner, template, samples)
    record = read_record(out)
    if record is None:
        lessons = Lessons(samples, teacher, template, config.seed)
        record = _fit(config, captioner, ref.paths[0], lessons, facts, on_step)
        LocalStore(out).write(RECORD, to_json(record).encode())
    shutil.rmtree(out / WORK)
    check_same(out, record, facts)
    yield from describe_record(record)


def _fit(
    config: FitCaptionerConfig,
    captioner: VlmCaptioner,
    base: Path,
    lessons: Lessons,
    facts: dict[str, Any],
    on_step: OnStep | None,
) -> dict[str, Any]:
    """Fit, save and measure; give the record of the fit."""
    from curate.captioners.vlm import VlmCaptioner
    from pipelines.fitting.card import write_card
    from pipelines.fitting.folder import (
        ADAPTER,
        METRICS,
        MODEL,
        WORK,
        put_folder,
        save_adapter,
        save_model,
    )
    from pipelines.fitting.quality import measure
    from train.captioning.loop import fit
    from train.captioning.trained import adapt, count_parameters
    from train.metrics import to_jsonl

    # 1. The base, as it is.
    vlm, out, held = captioner.vlm, Path(config.out), lessons.held()
    before = measure(captioner, held, config.micro_batch_size)

    # 2. Fit; the captioner's own model changes.
    adapted = adapt(vlm.model, config, config.seed)
    record = {**facts, **count_parameters(vlm.model)}
    checkpoints = out / WORK / "checkpoints"
    state = fit(
        vlm.model, lessons.prepare, lessons.keys, config, checkpoints, facts, config.seed, on_step
    )

    # 3. Save; each folder gets its name when it is whole.
    LocalStore(out).write(METRICS, to_jsonl(state.lines).encode())
    if adapted is not None:
        card = write_card(record, is_adapter=True)
        put_folder(out, ADAPTER, lambda folder: save_adapter(adapted, card, folder))
        adapted.merge_and_unload()
    card = write_card(record, is_adapter=False)
    put_folder(out, MODEL, lambda folder: save_model(vlm, base, card, folder))

    # 4. What was saved, loaded as recaption loads it.
    vlm.model.cpu()  # room for the other
    fitted = VlmCaptioner(ModelRef(kind="vlm", paths=(out / MODEL,)))
    after = measure(fitted, held, config.micro_batch_size)
    measured = {"before": dataclasses.asdict(before), "after": dataclasses.asdict(after)}
    return {**record, "heldout": measured}

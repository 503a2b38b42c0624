"""Examine, convert and fit models: doctor, golden, convert-weights, fit-captioner."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.verbs.answers import EXIT_OK, EXIT_USER, read_options


def doctor(arguments: Sequence[str]) -> int:
    """Examine the installation."""
    from pipelines.doctor import examine

    options = read_options(arguments, {"models": "", "models_folder": ""})
    healthy = True
    for check in examine(options["models"], options["models_folder"]):
        print(f"{'ok  ' if check.ok else 'FAIL'} {check.name:<28} {check.detail}", flush=True)
        healthy = healthy and check.ok
    return EXIT_OK if healthy else EXIT_USER


def golden(arguments: Sequence[str]) -> int:
    """Keep what a pack's models give now."""
    from curate.models.packs import load_pack
    from pipelines.golden import write_goldens

    options = read_options(arguments, {"models": "toy", "models_folder": "", "overwrite": "false"})
    overwrite = options["overwrite"] == "true"
    pack = load_pack(options["models"], options["models_folder"])
    for line in write_goldens(pack, overwrite=overwrite):
        print(line)
    return EXIT_OK


def convert_weights(arguments: Sequence[str]) -> int:
    """Turn weights of others into safetensors."""
    from pipelines.convert import OPTIONS, convert_weights

    paths = [text for text in arguments if text.split("=", 1)[0] not in OPTIONS]
    options = read_options([text for text in arguments if text not in paths], OPTIONS)
    for line in convert_weights(paths, options):
        print(line)
    return EXIT_OK


def fit_captioner(arguments: Sequence[str]) -> int:
    """Fine-tune a captioner on shards of pictures and captions."""
    from pipelines.fit_captioner import fit_captioner, parse_config

    for line in fit_captioner(parse_config(arguments)):
        print(line, flush=True)
    return EXIT_OK

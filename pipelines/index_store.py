"""Make a latent store readable again, or for the first time: `curate index DIR`.

    DIR with manifest.json      indexes that are missing, damaged or older than their tars are made
    DIR with tars, no manifest  tars of latents from elsewhere: indexes, then a manifest

Tars from elsewhere need `models=PACK`: the manifest says which VAE made the latents and how they
are whitened. Their text lies in folders text-NAME with tars of the same names and sample order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import xxhash

from curate.core.errors import DataError, ShardError
from curate.core.index_tars import StoredArray, index_arrays, index_captions, load_array
from curate.core.latent_manifest import (
    NAME,
    NULL_SHARD,
    LatentFacts,
    LatentManifest,
    ShardEntry,
    TextFacts,
    TextForm,
)
from curate.core.rebuild_index import FLIPPED, check_size, fits, rebuild_index
from curate.core.record_index import SUFFIX, RecordIndex, open_index
from curate.core.store import LocalStore
from curate.core.tar_index import index_tar
from curate.models.packs import ModelPack

_TEXT = "text-"
_LATENTS = (".moments.npy", ".latents.npy")
_FORMS: Mapping[str, TextForm] = {"<f2": "float16", "|i1": "int8", "<i4": "ids"}


def check_folder(folder: Path) -> None:
    """Refuse a folder that can be no store of latents.

    Raises:
        DataError: it is absent, or has neither a manifest nor tars of latents.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder, got none; give that of a latent store")
    if (folder / NAME).exists():
        return
    found = _first_members(folder)
    if any(name.endswith(_LATENTS) for name in found):
        return
    hint = folder / "encode"
    remedy = f"give {hint}" if (hint / NAME).exists() else "give the folder of a latent store"
    raise DataError(
        f"{folder}: must have {NAME} or tars with {' or '.join(_LATENTS)}, got "
        f"{f'a tar with {found[0]}' if found else 'no tar with a sample'}; {remedy}"
    )


def repair_store(folder: Path) -> Iterator[str]:
    """Make the indexes that do not fit their tars again; yield a line for each.

    Raises:
        ShardError: a tar is missing, or is not as the manifest says.
        DataError: a tar is cut or damaged.
    """
    manifest = LatentManifest.load(LocalStore(folder))
    nulls = [f"{text.folder}/{NULL_SHARD}.tar" for text in manifest.texts]
    for entry in manifest.shards:
        for name in [name for name in entry.files if name.endswith(".tar")]:
            check_size(folder, entry, name)
            if not fits(folder / name):
                yield _made(rebuild_index(folder, manifest, name))
    for name in nulls:  # tars from elsewhere have no empty caption
        if (folder / name).exists() and not fits(folder / name):
            yield _made(rebuild_index(folder, manifest, name))


def adopt_store(folder: Path, models: ModelPack) -> Iterator[str]:
    """Index tars of latents from elsewhere and write their manifest; yield a line for each index.

    Args:
        folder: with *.tar, each sample with moments.npy ([2C, h, w], mean and standard deviation)
            or latents.npy ([C, h, w]), float16 and not scaled.
        models: whose VAE made the latents, and whose text encoders the texts.

    Raises:
        DataError: no tars.
        ShardError: arrays that do not fit the VAE, mixed shapes, texts of other samples.
    """
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        raise DataError(f"{folder}: must hold tars of latents, got none; give their folder")
    latents = _latent_facts(tars[0], models)
    texts = [_text_facts(one, models) for one in sorted(folder.glob(f"{_TEXT}*")) if one.is_dir()]
    entries: list[ShardEntry] = []
    for tar in tars:
        members = [latents.member, *([FLIPPED] if latents.has_flipped else [])]
        path = index_arrays(tar, {"vae": latents.vae}, members)
        index = open_index(path)
        yield _made(path)
        files = [tar, path]
        for text in texts:
            beside = folder / text.folder / tar.name
            path = index_captions(beside, {"encoder": text.encoder, "form": text.form})
            _check_keys(beside, open_index(path), index)
            yield _made(path)
            files += [beside, path]
        entries.append(_entry(folder, tar, index, latents, files))
    longest = [_with_longest(folder, text, [tar.stem for tar in tars]) for text in texts]
    manifest = LatentManifest(latents=latents, texts=tuple(longest), shards=tuple(entries))
    LocalStore(folder).write(NAME, manifest.to_json().encode())
    yield f"{folder / NAME}: {len(entries)} shards, {len(texts)} text columns"


def _first_members(folder: Path) -> list[str]:
    """Name the members of the first sample of a folder's first tar."""
    for tar in sorted(folder.glob("*.tar"))[:1]:
        for sample in index_tar(tar, str(tar), "first_dot")[:1]:
            return [member.name for member in sample.members.values()]
    return []


def _latent_facts(tar: Path, models: ModelPack) -> LatentFacts:
    from curate.models.vae import load_vae

    if "vae" not in models:
        raise DataError("models: must have the role vae, got none; name the VAE of these latents")
    vae = load_vae(models["vae"])
    arrays = _first_arrays(tar)
    member = next((name for name in ("moments", "latents") if name in arrays), None)
    if member is None:
        raise ShardError(
            f"{tar}: samples must have moments.npy or latents.npy, got {', '.join(arrays)}; "
            "rename the member"
        )
    channels = vae.latent_channels * (2 if member == "moments" else 1)
    array = arrays[member].array
    if array.ndim != 3 or len(array) != channels or array.dtype.str != "<f2":
        raise ShardError(
            f"{tar}: {member}.npy must be float16 [{channels}, h, w] for this VAE, got "
            f"{array.dtype} {list(array.shape)}; name the VAE of these latents with models="
        )
    return LatentFacts(
        member="moments" if member == "moments" else "latents",
        vae=models["vae"].digest,
        channels=vae.latent_channels,
        mean=tuple(float(value) for value in vae.latent_mean),
        std=tuple(float(value) for value in vae.latent_std),
        downsample=vae.downsample,
        has_flipped=FLIPPED in arrays,
    )


def _text_facts(folder: Path, models: ModelPack) -> TextFacts:
    """Describe a text column by its first array and the pack's text encoder of its name."""
    name = folder.name.removeprefix(_TEXT)
    tars = sorted(folder.glob("*.tar"))
    arrays = _first_arrays(tars[0]) if tars else {}
    tokens = next((one.array for other, one in arrays.items() if other != "pooled"), None)
    if tokens is None or tokens.dtype.str not in _FORMS:
        raise ShardError(
            f"{folder}: captions must be float16, int8 or int32 arrays, got "
            f"{None if tokens is None else tokens.dtype}; write them again"
        )
    form = _FORMS[tokens.dtype.str]
    pooled = arrays.get("pooled")
    role = "text_encoder" if name == "main" else f"text_encoder_{name}"
    return TextFacts(
        name=name,
        encoder=models[role].digest if role in models else "",
        dim=0 if form == "ids" else tokens.shape[1] - (2 if form == "int8" else 0),
        pooled_dim=pooled.array.shape[1] if pooled else 0,
        max_tokens=0,  # known when all are indexed
        form=form,
    )


def _with_longest(folder: Path, text: TextFacts, shards: list[str]) -> TextFacts:
    counts = [
        open_index(folder / text.folder / f"{shard}{SUFFIX}").arrays["captions"]["num_tokens"]
        for shard in shards
    ]
    longest = max((int(one.max()) for one in counts if len(one)), default=0)
    return replace(text, max_tokens=longest)


def _first_arrays(tar: Path) -> dict[str, StoredArray]:
    """Read the arrays of a tar's first sample that has any."""
    with tar.open("rb") as stream:
        for sample in index_tar(tar, str(tar), "first_dot"):
            arrays = {
                ext.removesuffix(".npy"): load_array(stream, tar, member)
                for ext, member in sample.members.items()
                if ext.endswith(".npy")
            }
            if arrays:
                return arrays
    return {}


def _check_keys(tar: Path, text: RecordIndex, latents: RecordIndex) -> None:
    if text.facts["keys_xxh3"] != xxhash.xxh3_64_hexdigest(latents.arrays["key"].tobytes()):
        raise ShardError(
            f"{tar}: must hold the samples of {latents.path.stem}.tar in their order, got others; "
            "write it again in that order"
        )


def _entry(
    folder: Path, tar: Path, index: RecordIndex, latents: LatentFacts, files: list[Path]
) -> ShardEntry:
    height, width = index.facts["members"][latents.member]["shape"][1:]
    return ShardEntry(
        name=tar.stem,
        bucket=f"{height * latents.downsample}x{width * latents.downsample}",
        num_samples=len(index.arrays["key"]),
        files={str(path.relative_to(folder)): path.stat().st_size for path in files},
    )


def _made(path: Path) -> str:
    return f"made {path}"

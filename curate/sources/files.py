"""Tell what an input folder holds, on a disk or behind a URL: names, sizes, versions."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from curate.core.remote_store import RemoteStore
from curate.core.store import Store

Facts = tuple[int, int | str]  # size in bytes; modification time in ns, or an object's ETag

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def picture_files(store: Store) -> dict[str, Facts]:
    """List the pictures below a folder and the captions beside them, by relative name.

    Args:
        store: searched recursively; hidden files and links that lead outside are left out.
    """
    if isinstance(store, RemoteStore):
        files = store.files()
        pictures = [name for name in files if _is_shown_picture(name)]
        wanted = {*pictures, *map(caption_name, pictures)}
        return {name: files[name] for name in files if name in wanted}
    folder, found = Path(store.url), dict[str, Facts]()
    root = folder.resolve()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not _is_shown_picture(name):
            continue
        if path.resolve().is_relative_to(root) and path.is_file():
            found[name] = facts_of(store, name)
            if path.with_suffix(".txt").exists():
                found[caption_name(name)] = facts_of(store, caption_name(name))
    return found


def facts_of(store: Store, name: str) -> Facts:
    """Give a file's size and what tells its versions apart."""
    if isinstance(store, RemoteStore):
        return store.facts(name)
    stat = store.local_path(name).stat()
    return stat.st_size, stat.st_mtime_ns


def place_of(store: Store, name: str) -> str:
    """Name a file in messages as its user does."""
    return str(store.local_path(name)) if store.is_local else f"{store.url}/{name}"


def caption_name(name: str) -> str:
    """Name the text file beside a picture."""
    return PurePosixPath(name).with_suffix(".txt").as_posix()


def is_picture(name: str) -> bool:
    """Tell by its ending whether a file is a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _is_shown_picture(name: str) -> bool:
    return is_picture(name) and not any(p.startswith(".") for p in PurePosixPath(name).parts)

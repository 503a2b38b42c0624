"""Build a small web whose truth is known: a URL table, a truth table and the bytes of every URL.

A site is a function of (seed, num_images, split). No picture is kept: `fetch` draws a URL's bytes
when asked, the same ones every time. `server.py` puts a site behind a loopback socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.core.seed import make_rng
from pipelines.toyweb import faults
from pipelines.toyweb.heldout import benchmark_picture, benchmark_prompt, benchmark_prompts
from pipelines.toyweb.plants import CLOSED_FOLDER, HOSTS, Row, plan_rows, plant_of
from pipelines.toyweb.scene import (
    BACKGROUNDS,
    Split,
    describe,
    render,
    scene_to_json,
)

Pixels = NDArray[np.uint8]
Behaviour = Literal["plain", "drip", "short"]

_PRIVATE_URLS = (
    "http://127.0.0.1:1/admin.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/secret.png",
    "http://[::1]/secret.jpg",
)
_PATH = re.compile(rf"/(p|{CLOSED_FOLDER}|hop|final)/(\d+)(?:/(\d+))?(?:\.\w+)?")
# Source: Google's specification of X-Robots-Tag; DeviantArt's noai and noimageai; the noml of
# noml.info; TDM Reservation Protocol (W3C community group, 2024), section 6.2.
_OPT_OUTS = (
    ("X-Robots-Tag", "noai, noimageai"),
    ("X-Robots-Tag", "none"),
    ("X-Robots-Tag", "nosnippet, NoML"),
    ("X-Robots-Tag", "otherbot: noarchive, latentmill: noai"),
    ("X-Robots-Tag", "unavailable_after: 25 Jun 2020 15:00:00 PST"),
    ("TDM-Reservation", "1"),
)
_HTML = b"<!doctype html><html><body><h1>Sign in to see this picture</h1></body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Hold what a URL answers; `behaviour` says how the bytes are sent.

    "plain" sends all at once, "drip" a few at a time for up to 3 seconds, "short" announces the
    whole length and closes the connection half way.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    behaviour: Behaviour = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Hold a site's rows; everything else is made when asked for."""

    seed: int
    split: Split
    rows: tuple[Row, ...]

    def fetch(self, url: str) -> Response:
        """Answer a URL; hosts that are no part of the toy web get a 502."""
        parts = urlsplit(url)
        if parts.hostname not in HOSTS:
            return _message(502, "502 no such host on the toy web")
        if parts.path == "/robots.txt":
            return _message(200, f"User-agent: *\nDisallow: /{CLOSED_FOLDER}/")
        found = _PATH.fullmatch(parts.path)
        if not found or int(found[2]) >= len(self.rows):
            return _message(404, "404 not found")
        row = self.rows[int(found[2])]
        if found[1] in ("p", CLOSED_FOLDER):
            return self._answer(row) if row.url == url else _message(404, "404 not found")
        if found[1] == "hop" and found[3]:
            return _hop(row, int(found[3]))
        is_final = found[1] == "final" and row.plant == "redirect"
        return self._picture(row) if is_final else _message(404, "404 not found")

    def _answer(self, row: Row) -> Response:
        match row.plant:
            case "not_found":
                return _message(404, "404 not found")
            case "server_error":
                return _message(500, "500 internal error")
            case "redirect" | "redirect_loop":
                return _hop(row, 0)
            case "redirect_private":
                return _redirect(_PRIVATE_URLS[row.row % len(_PRIVATE_URLS)])
            case _:
                return self._picture(row)

    def _picture(self, row: Row) -> Response:
        body = self._body(row)
        ending = row.url.rpartition(".")[2]
        headers = [("Content-Type", "image/jpeg" if ending == "jpg" else f"image/{ending}")]
        behaviour: Behaviour = "plain"
        if row.plant == "opt_out":
            headers.append(_OPT_OUTS[row.row % len(_OPT_OUTS)])
        elif row.plant == "slow_drip":
            behaviour = "drip"
        elif row.plant == "short_body":
            behaviour = "short"
        return Response(status=200, headers=tuple(headers), body=body, behaviour=behaviour)

    def _body(self, row: Row) -> bytes:
        match row.plant:
            case "exact_duplicate":
                return self._body(self.rows[row.original])
            case "html_as_jpeg":
                return _HTML
            case "bomb":
                return faults.bomb()
            case "placeholder":
                return faults.encode(faults.placeholder(), "jpeg")
            case "exif_rotated":
                return faults.encode_rotated(self._pixels(row), row.quality)
            case "odd_mode":
                background = BACKGROUNDS[row.scene.background]
                return faults.encode_odd_mode(self._pixels(row), row.odd_mode, background)
            case "png_as_jpeg":
                return faults.encode(self._pixels(row), "png")
            case _:
                body = faults.encode(self._pixels(row), row.format, row.quality)
                return body[: len(body) // 2] if row.plant == "truncated" else body

    def _pixels(self, row: Row) -> Pixels:
        if row.plant == "benchmark_copy":
            pixels = benchmark_picture(self.seed, row.benchmark).pixels
            return faults.reencode(pixels, make_rng(self.seed, "fault", row.row))
        if row.plant == "flipped_duplicate":
            return faults.flip(self._pixels(self.rows[row.original]))
        # A copy is drawn with its original's jitter, then changed by its own fault.
        jitter = make_rng(self.seed, "pixels", self.split, row.original)
        pixels = render(row.scene, row.height, row.width, jitter=jitter)
        rng = make_rng(self.seed, "fault", row.row)
        match row.plant:
            case "near_duplicate":
                return faults.reencode(pixels, rng)
            case "cropped_duplicate":
                return faults.crop(pixels, rng)
            case "watermark":
                return faults.draw_watermark(pixels, rng)
            case "text_overlay":
                return faults.draw_text(pixels, rng)
            case "low_contrast":
                return faults.lower_contrast(pixels, rng)
            case _:
                return pixels


def build_site(seed: int, num_images: int, split: Split) -> Site:
    """Plan a site of `num_images` rows whose scenes are all of one split."""
    return Site(seed=seed, split=split, rows=plan_rows(seed, num_images, split))


def url_table(site: Site) -> pa.Table:
    """List what a crawler knows: url, caption, license."""
    columns = {name: [getattr(row, name) for row in site.rows] for name in _URL_COLUMNS}
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in _URL_COLUMNS]))


def truth_table(site: Site) -> pa.Table:
    """List what is true of every row.

    Columns: row (int64, of the URL table), url, plant, alt_class, scene (JSON), caption (detailed,
    what `describe` says), cluster (int64: rows that show the same picture share it), bytes_group
    (int64: rows with the same bytes share it), benchmark_key (of the benchmark picture that the row
    shows, else empty), prompt_key (of the benchmark prompt that its alt text is, but for case,
    spaces and a full stop; else empty), expected_status (what ingest must find), expected_rule (of
    filter, that the picture must fail; else empty), is_fine (curation should keep the picture).
    """
    rows: list[dict[str, object]] = []
    first: dict[str, int] = {}  # of the pictures that are no row's own
    prompts = {item.prompt: item.key for item in benchmark_prompts(site.seed)}
    for row in site.rows:
        key = ""
        cluster = row.original
        if row.plant == "benchmark_copy":
            key = benchmark_prompt(site.seed, row.benchmark).key
            cluster = first.setdefault(key, row.row)
        elif row.plant == "placeholder":
            cluster = first.setdefault("placeholder", row.row)
        rows.append(_truth_of(row, cluster, key, prompts.get(_plain(row.caption), "")))
    return pa.Table.from_pylist(rows, schema=_TRUTH_SCHEMA)


def write_url_table(site: Site, path: Path) -> None:
    """Write `url_table` as parquet."""
    pq.write_table(url_table(site), path)


def write_truth(site: Site, path: Path) -> None:
    """Write `truth_table` as parquet."""
    pq.write_table(truth_table(site), path)


_URL_COLUMNS = ("url", "caption", "license")
_TRUTH_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("url", pa.string()),
        ("plant", pa.string()),
        ("alt_class", pa.string()),
        ("scene", pa.string()),
        ("caption", pa.string()),
        ("cluster", pa.int64()),
        ("bytes_group", pa.int64()),
        ("benchmark_key", pa.string()),
        ("prompt_key", pa.string()),
        ("expected_status", pa.string()),
        ("expected_rule", pa.string()),
        ("is_fine", pa.bool_()),
    ]
)


def _plain(caption: str) -> str:
    return " ".join(caption.lower().removesuffix(".").split())


def _truth_of(row: Row, cluster: int, benchmark_key: str, prompt_key: str) -> dict[str, object]:
    plant = plant_of(row)
    has_same_bytes = row.plant in ("exact_duplicate", "repeated_row", "placeholder")
    return {
        "row": row.row,
        "url": row.url,
        "plant": row.plant,
        "alt_class": row.alt_class,
        "scene": scene_to_json(row.scene),
        "caption": describe(row.scene),
        "cluster": cluster,
        "bytes_group": cluster if has_same_bytes else row.row,
        "benchmark_key": benchmark_key,
        "prompt_key": prompt_key,
        "expected_status": plant.status,
        "expected_rule": plant.rule,
        "is_fine": plant.fine,
    }


def _hop(row: Row, done: int) -> Response:
    """Answer the redirect after `done` hops; a loop never ends, others end at /final/."""
    host = HOSTS[(row.row + done + 1) % len(HOSTS)]
    if row.plant == "redirect_loop":
        return _redirect(f"http://{host}/hop/{row.row:06d}/{1 + done % 2}")
    if row.plant != "redirect" or done >= row.hops:
        return _message(404, "404 not found")
    if done + 1 < row.hops:
        return _redirect(f"http://{host}/hop/{row.row:06d}/{done + 1}")
    return _redirect(f"http://{host}/final/{row.row:06d}.{row.url.rpartition('.')[2]}")


def _redirect(url: str) -> Response:
    return Response(
        status=302, headers=(("Location", url), ("Content-Type", "text/html")), body=b""
    )


def _message(status: int, text: str) -> Response:
    headers = (("Content-Type", "text/plain"),)
    return Response(status=status, headers=headers, body=f"{text}\n".encode())

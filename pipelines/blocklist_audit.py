"""Log every hit of known harm once, for good, and hand it to whoever must hear of it.

    blocklist's tables -> hits of purpose harm
        -> audit/blocklist.jsonl   append-only, one line a hit
        -> audit/harm_keys.txt     for `curate takedown keys=`
    previews, sheets and pages from before a sample was on a list -> removed
    lines that were not yet handed over -> blocklist.on_hit -> audit/handed.jsonl

Done by the client, after the stage and at every run: stages know no clock. A line holds key, list,
kind of hash, distance, the list's digest, time and run; no URL, no caption, no picture. A hook that
fails keeps its hit in the log, and is called with it again by the next run; it may be called twice
with one hit when the run is killed right after it, never not at all.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from curate.core.append_only import append_lines, read_lines
from curate.core.commit import remove_shard
from curate.core.manifest import SUMMARY, find_markers, finished_shards
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.core.withheld import BLOCKED, BLOCKLIST, HITS, REASONS
from curate.stages.matching.blocklist_config import HARM, BlocklistConfig
from pipelines.inspect import SHEET

AUDIT = "audit"  # folder; not the stage's own, where only shards may lie
LOG, HANDED, HARM_KEYS = "blocklist.jsonl", "handed.jsonl", "harm_keys.txt"

_HitName = tuple[str, str, str]  # key, list, kind


def audit_hits(out: Store, config: BlocklistConfig, run: str) -> list[str]:
    """Log the hits of finished shards that are not logged, and hand over those that wait.

    Args:
        out: folder of the run; the caller owns it.
        config: with the hook.
        run: a name for this run.

    Returns:
        What went wrong with the hook, a line each.
    """
    blocklist, audit = ShardSet(out.child(BLOCKLIST)), out.child(AUDIT)
    hits = list(_read_harm(blocklist))
    known = {_name(line) for line in read_lines(audit, LOG)}
    new = {_name(hit): hit for hit in hits if _name(hit) not in known}
    stamp = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "run": run}
    remedy = {"remedy": f"curate takedown keys={audit.url}/{HARM_KEYS} out={out.url}"}
    append_lines(audit, LOG, [{**hit, **stamp, **remedy} for hit in new.values()])
    _write_keys(audit, sorted({hit["key"] for hit in hits}))
    _drop_thumbnails(out, blocklist)
    _drop_report(out, blocklist)
    return _hand_over(audit, config, stamp) if config.on_hit else []


def _hand_over(audit: Store, config: BlocklistConfig, stamp: Mapping[str, str]) -> list[str]:
    """Call the hook for each line that waits, oldest first, up to the first failure."""
    handed = {_name(line) for line in read_lines(audit, HANDED)}
    waiting = [line for line in read_lines(audit, LOG) if _name(line) not in handed]
    for number, line in enumerate(waiting):
        failure = _call(config, line)
        if failure:
            return [
                f"blocklist.on_hit: must end with exit code 0, got {failure} for key "
                f"{line['key']}; {len(waiting) - number:,} logged hits wait for the next run"
            ]
        key, listed, kind = _name(line)
        append_lines(audit, HANDED, [{"key": key, "list": listed, "kind": kind, **stamp}])
    return []


def _call(config: BlocklistConfig, line: Mapping[str, Any]) -> str:
    """Run the hook with a line on its standard input; "" when it went well."""
    text = json.dumps(line, sort_keys=True) + "\n"
    try:
        done = subprocess.run(
            config.on_hit,
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            timeout=config.on_hit_timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {config.on_hit_timeout_s:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    return f"exit code {done.returncode}" if done.returncode else ""


def _read_harm(blocklist: ShardSet) -> Iterator[dict[str, Any]]:
    """Yield the hits of purpose harm; shards whose markers count none are not opened."""
    for shard, marker in find_markers(blocklist.store, blocklist.shards()):
        if marker is None or not marker.counts.get(f"dropped.{BLOCKED}"):
            continue
        for row in blocklist.table(shard, ["key", HITS]).to_pylist():
            for hit in row[HITS] or ():
                if hit["purpose"] == HARM:
                    names = ("list", "kind", "distance", "list_sha256")
                    yield {"key": row["key"], **{name: hit[name] for name in names}}


def _write_keys(audit: Store, keys: Sequence[str]) -> None:
    """Write the keys of the hits that are there now; those taken down are no hits any more."""
    if keys:
        audit.write(HARM_KEYS, ("\n".join(keys) + "\n").encode())
    else:
        audit.delete(HARM_KEYS)


def _drop_thumbnails(out: Store, blocklist: ShardSet) -> None:
    """Remove previews that `curate show` wrote before a picture was on a list.

    Sheets of clusters go all, once there is a hit: the next `curate show` draws them again.
    """
    thumbnails = out.child(".thumbnails")
    there = {name.removesuffix(".png") for name in thumbnails.names(".png")}
    if not there:
        return
    hits = {
        row["key"]
        for _, table in blocklist.tables(["key", "status"])
        for row in table.to_pylist()
        if row["status"] in REASONS
    }
    for name in there:
        if name in hits or (hits and name.startswith(SHEET)):
            thumbnails.delete(f"{name}.png")


def _drop_report(out: Store, blocklist: ShardSet) -> None:
    """Remove a page that was written before the verdicts of today, if these withhold anything."""
    report = out.child("report")
    digests = blocklist.all_digests(".parquet")
    judged = dict[str, str]()
    for shard, marker in find_markers(blocklist.store, blocklist.shards()):
        if marker and any(marker.counts.get(f"dropped.{reason}") for reason in REASONS):
            judged |= digests[shard]
    for shard, marker in find_markers(report, finished_shards(report)):
        if marker and not judged.items() <= marker.identity.inputs.items():
            report.delete(SUMMARY)
            remove_shard(report, shard)


def _name(line: Mapping[str, Any]) -> _HitName:
    return line.get("key", ""), line.get("list", ""), line.get("kind", "")

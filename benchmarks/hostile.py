"""Meet every hostile host with our fetcher and with img2dataset, in one run.

`python -m benchmarks.hostile [--only TEXT]`

Each row runs in a forked child of its own, ours (fetch + admission to a shard) and img2dataset's
(its own download function, then its resizer), both with a timeout of 3 s, ours with its deadline of
5 s and all guards on. Names ending in .test resolve to loopback on both sides. Since the server can
only stand on loopback, our side allows private addresses where the row is not about addresses.
Seconds are the child's wall time, MB what it added to its peak memory.

Unsafe is: the forbidden thing was fetched or connected to, the row took longer than the deadline
and a second, or it added 64 MB or more. The program ends with 1 if ours is unsafe in any row or
gives it a wrong status.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.hostile_cases import Case, cases, make_redirects, make_routes
from benchmarks.hostile_server import Server, serve

TIMEOUT_S, DEADLINE_S, GIVE_UP_S = 3.0, 5.0, 60.0
MOST_MB = 64.0

Fetch = Callable[[Case, int], tuple[str, bool]]
"""Fetch one row: (status, whether bytes were obtained)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Hold how one tool met one row."""

    status: str
    has_bytes: bool
    seconds: float
    megabytes: float


# --- in the children


def resolve(name: str, asked: list[str] | None = None) -> Sequence[str]:
    """Play the DNS: .test is loopback, rebind.test only from its second question on."""
    asked = asked if asked is not None else []
    asked.append(name)
    if name == "rebind.test" and len(asked) == 1:
        return ["2001:4860:4860::8888"]
    if not name.endswith(".test"):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return ["127.0.0.1"]


def fetch_ours(case: Case, port: int) -> tuple[str, bool]:
    """Fetch and admit as the ingest stage does."""
    from curate.sources.config import IngestConfig
    from curate.sources.fetching.vetted_fetcher import VettedFetcher
    from curate.sources.source import RawSample
    from curate.stages.admit import admit

    config = IngestConfig(
        allow_private=not case.is_private,
        proxy=f"http://127.0.0.1:{port}" if case.by_proxy else "",
        timeout_s=TIMEOUT_S,
        deadline_s=DEADLINE_S,
        retries=int("rebind" in case.url),
        dns_ttl_s=0.0,
    )
    asked: list[str] = []
    fetcher = VettedFetcher(config, lambda name: resolve(name, asked))
    with tempfile.TemporaryDirectory() as folder:
        with fetcher.fetch_all({0: case.url.format(port=port)}, Path(folder)) as outcome:
            found = outcome(0)
        sample = RawSample(
            key="k", row=0, url=case.url, caption="", source="", data=found.data,
            status=found.status, error=found.error,
        )  # fmt: skip
        return str(admit(sample, config).row["status"]), found.data is not None


def fetch_theirs(case: Case, port: int) -> tuple[str, bool]:
    """Fetch and resize by img2dataset's own functions, with its defaults but for the timeout."""
    from img2dataset.downloader import download_image_with_retry
    from img2dataset.resizer import Resizer

    real, asked = socket.getaddrinfo, list[str]()

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        name = str(host)
        return real(resolve(name, asked)[0] if name.endswith(".test") else name, *rest, **options)

    socket.getaddrinfo = getaddrinfo
    _, stream, error = download_image_with_retry(
        (0, case.url.format(port=port)), timeout=TIMEOUT_S, retries=int("rebind" in case.url),
        user_agent_token="latentmill",
        disallowed_header_directives={"noai", "noimageai", "noindex", "noimageindex"},
    )  # fmt: skip
    if stream is None:
        return str(error).splitlines()[0][:40], False
    resizer = Resizer(256, "keep_ratio", False, max_image_area=64_000_000)
    *_, error = resizer(stream)
    return ("ok" if error is None else str(error).strip().splitlines()[0][:40]), True


def _child(fetch: Fetch, case: Case, port: int, pipe: Any) -> None:
    before, start = _peak_mb(), time.monotonic()
    status, has_bytes = fetch(case, port)
    result = Result(
        status=status,
        has_bytes=has_bytes,
        seconds=time.monotonic() - start,
        megabytes=_peak_mb() - before,
    )
    pipe.send(result)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- in the tool's process


def run_tool(tool: str, port: int, only: str) -> None:
    """Run all rows with one tool, which is imported once, and print a line of JSON for each."""
    fetch = {"ours": fetch_ours, "theirs": fetch_theirs}[tool]
    fetch(cases()[0], port)  # imports, caches
    context = multiprocessing.get_context("fork")
    for case in _chosen(only):
        mine, its = context.Pipe()
        child = context.Process(target=_child, args=(fetch, case, port, its))
        child.start()
        its.close()
        result = Result(status="hangs", has_bytes=False, seconds=GIVE_UP_S, megabytes=0.0)
        with contextlib.suppress(EOFError):
            if mine.poll(GIVE_UP_S):
                result = mine.recv()
        child.kill()
        child.join()
        print(json.dumps(asdict(result)), flush=True)


# --- in the main process


def _chosen(only: str) -> list[Case]:
    return [case for case in cases() if only in case.name]


def faults(case: Case, result: Result, server: Server, asked_before: int) -> list[str]:
    """Say what was unsafe."""
    asked = [request.path for request in server.requests[asked_before:]]
    found: list[str] = []
    if (case.forbidden == "body" and result.has_bytes) or case.forbidden in asked:
        found.append("fetched")
    if case.is_private and not case.forbidden and result.status not in case.right:
        found.append("tried to connect")
    if result.seconds > DEADLINE_S + 1:
        found.append("slow")
    if result.megabytes >= MOST_MB:
        found.append("memory")
    return found


def run_rows(tool: str, server: Server, only: str) -> list[tuple[Result, list[str]]]:
    """Start a tool's process and judge its rows as they come."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.hostile", "--tool", tool]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment["NO_ALBUMENTATIONS_UPDATE"] = "1"
    rows: list[tuple[Result, list[str]]] = []
    with subprocess.Popen(
        [*command, "--port", str(server.port), "--only", only], stdout=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        assert process.stdout
        asked = 0
        for case, line in zip(_chosen(only), process.stdout, strict=False):
            result = Result(**json.loads(line))
            rows.append((result, faults(case, result, server, asked)))
            asked = len(server.requests)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--tool", choices=["ours", "theirs"], help="used by the program itself")
    parser.add_argument("--port", type=int, default=0, help="used by the program itself")
    options = parser.parse_args()
    if options.tool:
        run_tool(options.tool, options.port, options.only)
        return 0
    routes = make_routes()
    with serve(routes) as server:
        routes.update(make_redirects(server.port))
        ours = run_rows("ours", server, options.only)
        theirs = run_rows("theirs", server, options.only)
    print("| row | ours | s | MB | | img2dataset | s | MB | |")
    print("| --- | --- | ---: | ---: | --- | --- | ---: | ---: | --- |")
    wrong = 0
    for case, mine, its in zip(_chosen(options.only), ours, theirs, strict=True):
        is_right = mine[0].status in case.right and not mine[1]
        wrong += not is_right
        print(f"| {case.name} | {_cells(*mine)}{'' if is_right else ' WRONG'} | {_cells(*its)} |")
    unsafe = sum(bool(its[1]) for its in theirs)
    print(f"\n{len(ours)} rows: ours safe and rightly named in {len(ours) - wrong}, "
          f"img2dataset unsafe in {unsafe}")  # fmt: skip
    return 1 if wrong else 0


def _cells(result: Result, found: Sequence[str]) -> str:
    verdict = f"**{', '.join(found)}**" if found else "safe"
    return f"{result.status} | {result.seconds:.2f} | {result.megabytes:.0f} | {verdict}"


if __name__ == "__main__":
    sys.exit(main())

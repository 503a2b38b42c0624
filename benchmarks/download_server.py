"""Serve pictures from memory as fast as one process can, and tell when it was asked.

`python -m benchmarks.download_server FOLDER` prints its port; `/picture/N?...` answers file N,
`/clock` gives and resets {"first_s", "num", "cpu_s"}: wall time of the first picture asked for, how
many were asked for, and the server's own CPU seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

ROBOTS = b"User-agent: *\nDisallow: /private/\nAllow: /\n"


class Site(asyncio.Protocol):
    """Answer one connection; the pictures and the clock are shared."""

    pictures: list[bytes] = []  # noqa: RUF012 - one site per process
    first_s, num, cpu_s = 0.0, 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._left = transport, b""

    def data_received(self, data: bytes) -> None:
        *heads, self._left = (self._left + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            self._answer(path)
            if b"connection: close" in head.lower():
                self._transport.close()

    def _answer(self, path: bytes) -> None:
        body, status = b"", b"404 Not Found"
        if path.startswith(b"/picture/"):
            Site.first_s = Site.first_s or time.time()
            Site.num += 1
            body, status = self.pictures[int(path[9:].partition(b"?")[0])], b"200 OK"
        elif path == b"/robots.txt":
            body, status = ROBOTS, b"200 OK"
        elif path == b"/clock":
            cpu_s = time.process_time()
            clock = {"first_s": Site.first_s, "num": Site.num, "cpu_s": cpu_s - Site.cpu_s}
            body, status = json.dumps(clock).encode(), b"200 OK"
            Site.first_s, Site.num, Site.cpu_s = 0.0, 0, cpu_s
        head = b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        self._transport.writelines([head % (status, len(body)), body])


async def main(folder: Path) -> None:
    Site.pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    server = await asyncio.get_running_loop().create_server(Site, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

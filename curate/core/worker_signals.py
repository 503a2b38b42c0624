"""Let a terminal's Ctrl-C reach the client alone: it ends its workers in good order.

Named in `distributed.worker.preload`, so that Dask calls `dask_setup` in each worker of a
LocalCluster, also in one that replaces a dead one.
"""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore SIGINT in this worker process; the name and the argument are Dask's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Open an ONNX file on one CPU thread; ONNX is data and runs no code of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.core.errors import ModelError


def open_onnx(path: Path, advice: str) -> Any:
    """Open a session with one thread, for a worker has one core.

    Args:
        path: of a file that is there.
        advice: what the user shall do with a file that cannot be read, e.g. "fetch it again".

    Raises:
        ModelError: it is no ONNX file, or one that this onnxruntime does not know.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but this
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        reason = str(error).splitlines()[0][:160]
        raise ModelError(f"{path}: must be an ONNX file, got {reason}; {advice}") from error

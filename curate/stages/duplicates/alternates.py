"""Collect the captions of dropped duplicates as alternates of the keeper's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers


def gather_alternates(
    captions: pa.ChunkedArray, keepers: NDArray[np.int64], limit: int
) -> pa.ListArray:
    """List for each keeper the distinct captions of its members, without its own.

    Args:
        captions: [N], texts of samples from the best to the worst; surrounding white space
            does not count, null and "" are no captions.
        keepers: [N], place of each sample's keeper; a keeper's is its own.
        limit: captions of a list, at most.

    Returns:
        [N] of lists of texts: on a keeper's place the captions of its members, the best
        member's first, null at all others. Memory is that of the captions and 60 bytes a sample.
    """
    texts = pc.fill_null(pc.utf8_trim_whitespace(captions.combine_chunks()), "")
    encoded = texts.dictionary_encode()
    code = encoded.indices.to_numpy()  # [N], equal texts have equal numbers
    places = np.arange(len(code))
    order = np.lexsort((places, code, keepers))  # equal captions of a keeper: the best one first
    is_first = np.diff(keepers[order], prepend=-1) != 0
    is_first |= np.diff(code[order], prepend=-1) != 0
    first = np.sort(order[is_first])
    is_empty = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    kept = first[(code[first] != code[keepers[first]]) & ~is_empty[first]]
    kept = kept[np.argsort(keepers[kept], kind="stable")]  # by keeper, the best member first
    nth = np.arange(len(kept)) - np.searchsorted(keepers[kept], keepers[kept])
    kept = kept[nth < limit]
    ends = np.cumsum(np.bincount(keepers[kept], minlength=len(code)))
    offsets = pa.array(np.r_[0, ends].astype(np.int32))
    values = encoded.dictionary.take(pa.array(code[kept]))
    is_member = pa.array(keepers != places)
    return pa.ListArray.from_arrays(offsets, values, mask=is_member)

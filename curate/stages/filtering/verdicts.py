"""Turn what the rules say into verdicts: keep, the first reason, and all of them.

    rules in force + columns -> outcomes [R, N] -> table of VERDICT_SCHEMA -> counts

A shard is judged as whole columns: no Python object is made for a row. Outcomes are arrays [R, N],
R rules in order by N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.schema import KEY, STATUS, VERDICT_FIELDS
from curate.core.shard import ShardSet
from curate.stages.filtering.columns import find_ok
from curate.stages.filtering.config import FilterConfig, read_config
from curate.stages.filtering.rules_in_force import RuleInForce, put_in_force
from curate.stages.filtering.score_rule import OUTSIDE, PASSED, UNMEASURED

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

VERDICT_SCHEMA = pa.schema([*VERDICT_FIELDS, ("failed_rules", pa.list_(pa.string()))])
UNMEASURED_PREFIX = "unmeasured."
CUTS = "cuts"  # the task parameter that holds the cuts a shard was judged by


def judge(rules: Sequence[RuleInForce], table: pa.Table) -> NDArray[np.uint8]:
    """Let every rule judge every row: [R, N] of PASSED, OUTSIDE or UNMEASURED."""
    outcomes = np.zeros((len(rules), table.num_rows), np.uint8)
    for row, rule in enumerate(rules):
        outcomes[row] = rule.judge(table)
    return outcomes


def make_verdicts(table: pa.Table, outcomes: NDArray[np.uint8], rules: Sequence[str]) -> pa.Table:
    """Turn outcomes into verdicts; a sample that failed before keeps its status as its reason.

    Args:
        table: columns `key` and `status`, N rows.
        outcomes: [R, N], as `judge` gives them.
        rules: names of the R rules; the first that fails gives the reason.

    Returns:
        A table of VERDICT_SCHEMA, row for row.
    """
    is_ok = find_ok(table)
    failed = (outcomes != PASSED).T & is_ok[:, None]  # [N, R]
    # Rule r fails as name r when outside, as name R + r when unmeasured; name 2R is "", kept.
    names = pa.array([*rules, *(UNMEASURED_PREFIX + rule for rule in rules), ""], pa.string())
    codes = np.arange(len(rules)) + len(rules) * (outcomes == UNMEASURED).T  # [N, R]
    last = ((0, 0), (0, 1))  # one more column, which fails where no rule does
    first = np.pad(failed, last, constant_values=True).argmax(axis=1)  # [N]
    codes_padded = np.pad(codes, last, constant_values=2 * len(rules))  # [N, R + 1]
    reasons = codes_padded[np.arange(table.num_rows), first]  # [N]
    starts = np.concatenate([[0], failed.sum(axis=1).cumsum()])  # [N + 1]
    columns = {
        "key": table[KEY],
        "status": table[STATUS],
        "keep": is_ok & ~failed.any(axis=1),
        "reason": pc.if_else(pa.array(is_ok), names.take(pa.array(reasons)), table[STATUS]),
        "failed_rules": pa.ListArray.from_arrays(
            pa.array(starts, pa.int32()), names.take(pa.array(codes[failed]))
        ),
    }
    return pa.table(columns, schema=VERDICT_SCHEMA)


def read_outcomes(verdicts: pa.Table, rules: Sequence[str]) -> NDArray[np.uint8]:
    """Read back what the rules said, from the column `failed_rules`: [R, N]."""
    outcomes = np.zeros((len(rules), verdicts.num_rows), np.uint8)
    failed = verdicts["failed_rules"].combine_chunks()
    rows = pc.list_parent_indices(failed).to_numpy()
    names = pa.array([*rules, *(UNMEASURED_PREFIX + rule for rule in rules)], pa.string())
    codes = pc.index_in(failed.flatten(), value_set=names).to_numpy(zero_copy_only=False)
    codes = codes.astype(np.int64)
    outside = codes < len(rules)
    outcomes[codes[outside], rows[outside]] = OUTSIDE
    outcomes[codes[~outside] - len(rules), rows[~outside]] = UNMEASURED
    return outcomes


def count_verdicts(verdicts: pa.Table) -> Counter[str]:
    """Count what became of the samples: "in", "kept", "dropped.<reason>", "failed.<status>"."""
    is_ok = find_ok(verdicts)
    counts = Counter({"in": verdicts.num_rows})
    for entry in verdicts["reason"].filter(pa.array(is_ok)).value_counts().to_pylist():
        name = f"dropped.{entry['values']}" if entry["values"] else "kept"
        counts[name] = entry["counts"]
    for entry in verdicts[STATUS].filter(pa.array(~is_ok)).value_counts().to_pylist():
        counts[f"failed.{entry['values']}"] = entry["counts"]
    return +counts


def finished_config(verdicts: ShardSet, shard: str) -> FilterConfig:
    """Read what was asked of a finished shard, from its marker."""
    return read_config(verdicts.marker(shard).identity.config)


def finished_rules(verdicts: ShardSet, shard: str) -> list[RuleInForce]:
    """Give the rules that a finished shard was judged by, with the cuts that held."""
    identity = verdicts.marker(shard).identity
    return put_in_force(read_config(identity.config), identity.params.get(CUTS, {}))

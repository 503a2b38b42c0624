import pyarrow as pa
import pytest

from pipelines.toyweb.truth import (
    copy_recall,
    exact_duplicates,
    leaks,
    mismatch_auc,
    near_duplicates,
    plant_rates,
    watermark_auc,
)


def truth_of(*rows: dict[str, object]) -> pa.Table:
    defaults = {"plant": "clean", "alt_class": "good", "expected_status": "ok", "expected_rule": ""}
    full = [
        {**defaults, "row": index, "cluster": index, "bytes_group": index, **row}
        for index, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full)


DUPLICATES = truth_of(
    {},  # 0: the original
    {"plant": "exact_duplicate", "cluster": 0, "bytes_group": 0},
    {"plant": "near_duplicate", "cluster": 0},
    {"plant": "cropped_duplicate", "cluster": 0},
    {},  # 4 and 5: nobody's copies
    {},
)


def test_mismatch_is_judged_on_whole_pictures_only():
    truth = truth_of(
        {}, {"alt_class": "mismatched"}, {"alt_class": "vague"}, {"plant": "watermark"}
    )
    assert mismatch_auc(truth, {0: 0.9, 1: 0.1, 2: 1.0, 3: -1.0}) == 1.0


def test_watermark_scores_are_compared_with_whole_pictures():
    truth = truth_of({}, {"plant": "watermark"}, {"plant": "text_overlay"}, {"plant": "watermark"})
    assert watermark_auc(truth, {0: 0.5, 1: 0.9, 2: 1.0, 3: 0.1}) == 0.5
    assert watermark_auc(truth, {0: 0.5, 1: 0.9}) == 1.0  # rows never seen are left out


def test_perfect_clusters_score_one():
    exact = exact_duplicates(DUPLICATES, {0: "a", 1: "a", 2: "b", 3: "c", 4: "d", 5: "e"})
    assert (exact.num_true, exact.recall, exact.precision) == (1, 1.0, 1.0)
    near = near_duplicates(DUPLICATES, {0: "a", 1: "a", 2: "a", 3: "a", 4: "d", 5: "e"})
    assert (near.num_true, near.recall, near.precision) == (2, 1.0, 1.0)


def test_a_false_merge_costs_precision_and_a_miss_costs_recall():
    missed = near_duplicates(DUPLICATES, {0: "a", 1: "a", 2: "b", 3: "a", 4: "d", 5: "d"})
    assert missed.recall == 0.0
    assert (missed.num_found, missed.precision) == (1, 0.0)
    exact = exact_duplicates(DUPLICATES, {0: "a", 1: "a", 2: "a", 4: "d", 5: "e"})
    assert exact.precision == pytest.approx(1 / 3)


def test_crops_count_in_their_own_score_only():
    clusters = {0: "a", 2: "a", 3: "c"}
    assert near_duplicates(DUPLICATES, clusters).recall == 1.0
    assert copy_recall(DUPLICATES, clusters, "cropped_duplicate").recall == 0.0
    assert copy_recall(DUPLICATES, clusters, "cropped_duplicate").num_true == 2


def test_mirrored_copies_are_no_near_duplicates_and_no_false_ones():
    truth = truth_of({}, {"plant": "flipped_duplicate", "cluster": 0}, {"plant": "near_duplicate"})
    joined = near_duplicates(truth, {0: "a", 1: "a", 2: "b"})
    assert (joined.num_true, joined.num_found) == (0, 0)
    assert copy_recall(truth, {0: "a", 1: "a", 2: "b"}, "flipped_duplicate").recall == 1.0
    assert copy_recall(truth, {0: "a", 1: "c", 2: "b"}, "flipped_duplicate").recall == 0.0


def test_a_crop_and_a_mirrored_copy_are_no_pair_of_either():
    truth = truth_of(
        {},
        {"plant": "flipped_duplicate", "cluster": 0},
        {"plant": "cropped_duplicate", "cluster": 0},
    )
    clusters = {0: "a", 1: "a", 2: "a"}
    assert copy_recall(truth, clusters, "flipped_duplicate").num_true == 1
    assert copy_recall(truth, clusters, "cropped_duplicate").num_true == 1


def test_leaks_are_judged_among_the_rows_that_were_compared():
    rows: list[dict[str, object]] = [{"benchmark_key": key} for key in ("a", "", "b", "c", "")]
    truth = truth_of(*rows)
    score = leaks(truth, "benchmark_key", {0: True, 1: True, 2: False, 4: False})
    assert (score.num_true, score.num_found, score.num_right) == (2, 2, 1)
    assert (score.recall, score.precision) == (0.5, 0.5)


def test_a_plant_is_right_with_its_status_or_with_its_rule_among_those_it_fails():
    truth = truth_of(
        {},
        {"plant": "opt_out", "expected_status": "opted_out"},
        {"plant": "opt_out", "expected_status": "opted_out"},
        {"plant": "tiny", "expected_rule": "min_side"},
        {"plant": "tiny", "expected_rule": "min_side"},
        {"plant": "tiny", "expected_rule": "min_side"},
    )
    status = {0: "ok", 1: "opted_out", 2: "ok", 3: "ok", 4: "ok", 5: "ok"}
    failed_rules = {0: ["min_side"], 3: ["aspect", "min_side"], 4: ["aspect"]}
    assert plant_rates(truth, status, failed_rules) == {"opt_out": (1, 2), "tiny": (1, 3)}

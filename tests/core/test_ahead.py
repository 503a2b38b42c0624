"""Work ahead: order, bounds, errors in their place, nothing left running."""

from __future__ import annotations

import threading

import pytest

from curate.core.ahead import map_ahead


def test_results_come_in_the_order_of_their_items_whatever_the_threads() -> None:
    for threads in (1, 4):
        assert list(map_ahead(lambda n: n * n, range(50), ahead=7, threads=threads)) == [
            n * n for n in range(50)
        ]


def test_nothing_in_gives_nothing_out() -> None:
    assert list(map_ahead(str, [], ahead=3)) == []


def test_items_may_be_none() -> None:
    assert list(map_ahead(repr, [None, None], ahead=1)) == ["None", "None"]


def test_no_more_items_are_drawn_than_may_be_ahead() -> None:
    drawn: list[int] = []

    def items() -> object:
        for number in range(100):
            drawn.append(number)
            yield number

    results = map_ahead(lambda n: n, items(), ahead=5)  # type: ignore[arg-type]
    assert next(results) == 0
    assert len(drawn) == 5
    results.close()


def test_heavy_items_wait_for_the_budget_but_one_always_begins() -> None:
    drawn: list[int] = []

    def items() -> object:
        for weight in (10, 10, 500, 10):
            drawn.append(weight)
            yield weight

    results = map_ahead(lambda n: n, items(), ahead=9, weigh=int, budget=15)  # type: ignore[arg-type]
    assert next(results) == 10
    assert drawn == [10, 10]
    assert list(results) == [10, 500, 10]


def test_an_error_is_raised_in_its_items_place() -> None:
    results = map_ahead(lambda n: 1 // n, [1, 0, 1], ahead=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_runs_in_another_thread_and_ends_with_the_generator() -> None:
    names = list(map_ahead(lambda _: threading.current_thread().name, range(3), ahead=2))
    assert all(name.startswith("ahead") for name in names)
    results = map_ahead(lambda n: n, range(1000), ahead=10)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]

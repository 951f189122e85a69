"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.web import figures
from hub.web.figures import ScoreAxis

SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (12_700, "12.4 KiB"),
        (172_032, "168 KiB"),
        (1_040_000, "1 MiB"),
        (6_396_313, "6.1 MiB"),
        (90_852_864, "86.6 MiB"),
        (16_000_000_000, "14.9 GiB"),
    ],
)
def test_sizes_have_the_unit_that_fits(octets: int, text: str) -> None:
    assert figures.size(octets) == text


def test_a_size_is_so_many_times_smaller() -> None:
    assert figures.times(61_440, 884_736) == "14.4×"
    assert figures.times(1_000, 250_000) == "250×"
    assert figures.times(0, 100) == "–"


def test_scores_have_three_decimals_and_a_true_minus() -> None:
    assert figures.score(0.84249) == "0.842"
    assert figures.score(-0.1) == "−0.100"


@pytest.mark.parametrize(
    ("moved", "text"),
    [
        (0.03125, "±0.0312"),
        (12.5, "±12.500"),
        (0.0001, "±0.0001"),
        (3e-7, "less than ±0.0001"),
        (0.0, "±0.0000"),
    ],
)
def test_a_noise_that_is_there_is_never_shown_as_none(moved: float, text: str) -> None:
    assert figures.noise(moved) == text


def test_times_are_told_in_utc() -> None:
    moment = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert figures.when(moment) == "31 Dec 2025, 22:30 UTC"
    assert figures.day(datetime(2026, 8, 3, tzinfo=UTC)) == "3 Aug 2026"


def test_an_axis_ends_on_round_numbers() -> None:
    assert ScoreAxis.over([0.171, 0.879]).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert ScoreAxis.over([0.801, 0.838]).ticks == (0.8, 0.81, 0.82, 0.83, 0.84)
    assert ScoreAxis.over([9.5, 31.0]).ticks == (0.0, 10.0, 20.0, 30.0, 40.0)
    assert ScoreAxis.over([]).ticks == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_an_axis_of_whole_numbers_has_no_decimals() -> None:
    assert ScoreAxis.over([9.5, 1310.0]).marks == ("0", "500", "1000", "1500")
    assert ScoreAxis.over([0.0, 1.0]).marks == ("0.0", "0.25", "0.5", "0.75", "1.0")


@given(SCORES)
def test_an_axis_holds_every_score(values: list[float]) -> None:
    axis = ScoreAxis.over(values)
    assert 2 <= len(axis.ticks) <= 6
    assert all(0 <= float(axis.at(value).removesuffix("%")) <= 100 for value in values)
    assert float(axis.span(min(values), max(values)).removesuffix("%")) <= 100


@pytest.mark.parametrize(
    ("name", "words"),
    [("f1", "F1"), ("matthews", "Matthews correlation"), ("perplexity", "Perplexity (less is better)")],
)
def test_a_metric_says_which_way_it_is_better(name: str, words: str) -> None:
    assert figures.metric(name) == words


def test_nested_facts_are_lines() -> None:
    facts = {
        "seed": 0,
        "recipe": {"learning_rate": 0.02, "tries": [1, 2], "is_best": True},
        "self_reported": {"last": {"accuracy": 0.86731}, "best": None},
    }
    assert figures.flat(facts) == [
        ("recipe, is best", "yes"),
        ("recipe, learning rate", "0.02"),
        ("recipe, tries", "1, 2"),
        ("seed", "0"),
        ("self reported, best", "none"),
        ("self reported, last, accuracy", "0.8673"),
    ]

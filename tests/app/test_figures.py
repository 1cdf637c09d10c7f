"""Digits follow the interval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from softoverlap.app.figures import between, number, rounded


@pytest.mark.parametrize(
    ("value", "ends", "words"),
    [
        (0.7234, (0.61, 0.80), "0.72"),
        (0.7234, (0.2, 0.9), "0.7"),
        (0.7234, (0.7, 0.77), "0.72"),
        (0.7234, (0.71, 0.74), "0.723"),
        (3.14159, (2.0, 5.9), "3.1"),
        (3.14159, (0.0, 7.0), "3"),
        (2345.0, (2000, 2700), "2300"),
        (-0.04, (-0.5, 0.4), "0.0"),
        (-0.04, (-0.1, 0.0), "−0.04"),
        (0.5, (math.nan, math.nan), "0.5"),
        (0.5, None, "0.5"),
        (1.0, (1.0, 1.0), "1"),
        (math.nan, (0.0, 1.0), "–"),
        (None, None, "–"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_leaves_it(value, ends, words):
    assert rounded(value, ends) == words


@given(st.floats(-1e4, 1e4), st.floats(1e-4, 1e4))
def test_what_is_rounded_off_is_less_than_the_interval_is_wide(low, width):
    value = low + width / 3
    shown = float(rounded(value, (low, low + width)).replace("−", "-"))
    assert abs(shown - value) <= 0.51 * width


def test_numbers_are_short_and_what_is_not_defined_is_a_dash():
    values = (0.0, 12345.678, -0.5, math.inf, 0.98765)
    assert [number(value) for value in values] == ["0", "12346", "−0.5", "–", "0.988"]
    assert between((0.5, math.nan)) == between(None) == "–"

"""What the package computes stays what it was: every public function, loss and measure.

`frozen/values.json` holds the values, `frozen/calls.py` the calls and the command that writes them
anew. A value changes only together with a line of CHANGELOG.md that names it.
"""

from __future__ import annotations

import pytest

import softoverlap
from tests.frozen.calls import ENTRIES, changes
from tests.frozen.names import LEFT_OUT, covered
from tests.frozen.store import FILE, differences, read

KEPT = read()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", ENTRIES)
def test_a_value_is_what_it_was(key):
    told = changes(key, KEPT[key])
    assert not told, "\n".join(told[:20])


def test_every_stored_value_has_its_call():
    assert KEPT.keys() == ENTRIES.keys()


def test_every_public_name_is_called_or_left_out_for_a_reason():
    called = covered(list(ENTRIES))
    assert called | LEFT_OUT.keys() >= set(softoverlap.__all__)
    assert not called & LEFT_OUT.keys()
    assert LEFT_OUT.keys() <= set(softoverlap.__all__)


def test_the_file_stays_small():
    assert FILE.stat().st_size < 1.5e6


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        (1.0, 1.0 + 3e-12),
        (1, "1"),
        (float("nan"), 0.0),
        ([1.0], [1.0, 2.0]),
        ({"a": 1.0}, {"b": 1.0}),
        (True, 1.0),
        (
            {"dtype": "float64", "shape": [1], "values": [0.5]},
            {"dtype": "float32", "shape": [1], "values": [0.5]},
        ),
    ],
)
def test_a_difference_is_told(kept, now):
    assert differences(kept, now)
    assert not differences(kept, kept)

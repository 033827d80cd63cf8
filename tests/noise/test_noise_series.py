"""What a scan says of its noise, weighed against what the differences of its series say."""

from __future__ import annotations

import pytest

from medrestore.noise.measure import _Reading, _with_series
from medrestore.noise.model import Certainty
from medrestore.noise.tissue import FermiWindow, Tissue

OPEN = (FermiWindow(1.0, 0.0),) * 3
SURE, LIKELY, UNSURE = Certainty.SURE, Certainty.LIKELY, Certainty.UNSURE


@pytest.mark.parametrize(
    ("certainty", "series", "expected"),
    [
        *((one, 1.1, (1.1, SURE)) for one in Certainty),  # they agree
        (SURE, 2.0, (1.0, SURE)),
        (LIKELY, 2.0, (1.0, LIKELY)),
        (UNSURE, 2.0, (2.0, LIKELY)),
        (SURE, 0.5, (1.0, SURE)),
        (LIKELY, 0.5, (0.5, UNSURE)),
        (UNSURE, 0.5, (0.5, UNSURE)),
    ],
)
def test_the_level_of_a_scan_beside_that_of_its_series(certainty, series, expected):
    alone = _Reading(1.0, OPEN, "tissue", certainty)
    differences = Tissue(series, OPEN, 1.0, series, coloured=False, growth=1.0, blocks=100)
    found = _with_series(alone, differences)
    assert (found.sigma, found.certainty) == expected
    assert (found.source == "series") == (found.sigma != 1.0)

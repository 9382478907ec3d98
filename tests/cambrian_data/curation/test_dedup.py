"""Which sources are preferred, and the settings of duplicates."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cambrian_data.curation.duplicates.dedup import DedupConfig, preference


@pytest.mark.parametrize(
    ("source", "place"), [("a.json", 0), ("b.json:coco", 1), ("b.json", 3), ("B.json:x", 3)]
)
def test_preference_is_the_first_pattern_that_fits(source, place):
    assert preference(source, ["a.json", "b.json:*", "a*"]) == place


def test_a_star_stands_for_anything():
    assert preference("whatever", ["x", "*"]) == 1
    assert preference("whatever", []) == 0


def test_settings():
    config = DedupConfig()
    assert config.exact and config.near.enabled
    assert (config.near.threshold, config.near.shingle_words) == (0.8, 5)
    for wrong in ({"near": {"threshold": 1.1}}, {"near": {"threshold": 0.1}}, {"alarm_share": 0}):
        with pytest.raises(ValidationError):
            DedupConfig.model_validate(wrong)

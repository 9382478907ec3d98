"""The benchmark of packing runs, and both ways write the same samples."""

from __future__ import annotations

import pytest

from benchmarks.shards import main


@pytest.mark.parametrize("kilobytes", [0, 2])
def test_both_ways_are_measured(kilobytes):
    pytest.importorskip("webdataset")
    lines: list[str] = []
    found = main(["--samples", "40", "--picture-kb", str(kilobytes)], lines.append)
    assert found["samples"] == 40
    assert found["ratio"] > 0 and found["ratio_without_verify"] >= found["ratio"]
    assert "ShardWriter" in lines[0]

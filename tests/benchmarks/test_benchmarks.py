"""The benchmarks run, and what they compare with does what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cached_gets, extraction
from benchmarks.engine import main
from benchmarks.published_way import read_page

LEGACY = """
<p>Lead <img src="lead.png"></p>
<h2><span class="mw-headline">Motion</span></h2>
<p>It swings.</p>
<div class="thumb"><img src="a.png" alt="x"><div class="thumbcaption">A swing.</div></div>
<h3><span class="mw-headline">Period</span></h3><p>It takes a second.</p>
<figure><img src="b.png"><figcaption>A second.</figcaption></figure>
"""


def test_the_published_way_walks_the_siblings_of_headlines() -> None:
    assert read_page(LEGACY) == [
        ("Motion", "a.png", "A swing.", "It swings."),
        ("Period", "b.png", "A second.", "It takes a second."),
    ]
    assert read_page('<div class="mw-heading"><h2>Motion</h2></div><img src="a.png">') == []


def test_pages_are_the_embedded_ones_without_reference_data(tmp_path: Path) -> None:
    pages = extraction.saved_pages(tmp_path)
    assert len(pages) > 3
    found = extraction.measure(pages[:2], rounds=1)
    assert found["figures_with_caption"] > 0
    assert found["ratio"] > 0


def test_cached_pages_are_not_asked_for_again() -> None:
    found = cached_gets.measure(20)
    assert found["requests_sent"] == 2  # robots.txt and the page
    assert found["cached_us"] > 0


def test_numbers_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n.json"
    options = ["--only", "llm,http", "--fake-openai", "nowhere.py", "--gets", "5"]
    main([*options, "--json", str(file)])
    numbers = json.loads(file.read_text())
    assert numbers["http"]["gets"] == 5
    assert "there is no test server nowhere.py" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--only", "llms"])

"""Pages a second through `extract` on one core, beside the published engine's way of reading.

Both read the same pages in turns, several times over; processor time counts, so that other work on
the machine matters little. The best round of each is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from bs4 import BeautifulSoup

from benchmarks.published_way import read_page
from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.extract import extract, html_of_api_answer
from cambrian_data.engine.extract.parse import parse_page

_URL = "https://en.wikipedia.org/wiki/Page"


class Page(NamedTuple):
    """A page to read."""

    name: str
    html: str


def saved_pages(folder: Path) -> list[Page]:
    """Return the pages of the reference data, or the embedded ones where they are not there."""
    files = sorted([*folder.glob("wikipedia/*"), *folder.glob("html/*.html")])
    pages = [page for path in files if (page := _page_of(path)) is not None]
    return pages or [
        Page(page.title, page.path.read_text(encoding="utf-8")) for page in load_corpus().pages
    ]


def _page_of(path: Path) -> Page | None:
    if path.name.endswith(".expected.json"):
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".json":
        return Page(path.name, text)
    found = html_of_api_answer(orjson.loads(text))
    return Page(path.name, found[1]) if found else None


def measure(pages: list[Page], rounds: int) -> dict[str, Any]:
    """Read all pages in both ways, in turns, and return pages a second, ratio and figures."""
    ways: dict[str, Callable[[str], Any]] = {
        "cambrian": lambda html: extract(html, _URL),
        "published": read_page,
        "cambrian_parse": parse_page,
        "published_parse": lambda html: BeautifulSoup(html, "html.parser"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        spent = dict.fromkeys(ways, 0.0)
        for page in pages:
            for name, read in ways.items():
                start = time.process_time()
                read(page.html)
                spent[name] += time.process_time() - start
        for name, value in spent.items():
            seconds[name].append(value)
    best = {name: min(values) for name, values in seconds.items()}
    ours = [figure for page in pages for figure in extract(page.html, _URL)]
    theirs = [figure for page in pages for figure in read_page(page.html)]
    return {
        "pages": len(pages),
        "megabytes": sum(len(page.html) for page in pages) / 1e6,
        "rounds": rounds,
        "pages_per_second": len(pages) / best["cambrian"],
        "published_pages_per_second": len(pages) / best["published"],
        "ratio": best["published"] / best["cambrian"],
        "parse_share": best["cambrian_parse"] / best["cambrian"],
        "published_parse_share": best["published_parse"] / best["published"],
        "captions_per_second": sum(1 for figure in ours if figure.caption) / best["cambrian"],
        "published_captions_per_second": sum(1 for figure in theirs if figure.caption)
        / best["published"],
        "figures": len(ours),
        "figures_with_caption": sum(1 for figure in ours if figure.caption),
        "published_figures": len(theirs),
        "published_figures_with_caption": sum(1 for figure in theirs if figure.caption),
    }


def show(found: dict[str, Any]) -> str:
    """Return the numbers as text."""
    return (
        f"extraction, {found['pages']} pages of {found['megabytes']:.1f} MB, one core, best of "
        f"{found['rounds']} rounds\n"
        f"  extract             {found['pages_per_second']:6.1f} pages/s  "
        f"({found['parse_share']:.0%} of it in the parser)  {found['figures']} pictures, "
        f"{found['figures_with_caption']} with a caption\n"
        f"  the published way   {found['published_pages_per_second']:6.1f} pages/s  "
        f"({found['published_parse_share']:.0%} of it in the parser)  "
        f"{found['published_figures']} pictures, "
        f"{found['published_figures_with_caption']} with a caption\n"
        f"  ratio               {found['ratio']:6.2f} in pages, "
        f"{found['captions_per_second'] / max(found['published_captions_per_second'], 1e-9):.2f} "
        "in captioned pictures a second"
    )

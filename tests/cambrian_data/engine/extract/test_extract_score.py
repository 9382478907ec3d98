"""The score on saved pages, as they are and with the names that are a site's own changed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cambrian_data.engine.extract import extract, html_of_api_answer
from tests.reference import shared

LEAST = 0.97
_MEDIAWIKI = (
    r"mw-?|pcs-|thumb|tmulti|tsingle|trow|theader|gallery|infobox|ib-|navbox|vertical-navbox"
)
_MEDIAWIKI += r"|sidebar|metadata|reflist|references?$|toc|hatnote|ambox|legend|biota|vcard|magnify"
_MEDIAWIKI += r"|noprint|portal|image$|lazy-image|collapsible|citation|catlinks|printfooter|taxobox"
_WORDPRESS = r"|wp-|size-|align|blocks-|has-|is-|post-|entry-|hentry|attachment"
_MEDIUM = r"|graf|section-|progressiveMedia|aspectRatio"
_SPHINX = r"|headerlink|caption-|caption$|figure$|toctree|sphinxsidebar|document|body$|admonition"
SYSTEMS = re.compile(f"({_MEDIAWIKI}{_WORDPRESS}{_MEDIUM}{_SPHINX})", re.IGNORECASE)
"""How classes begin that publishing systems write on every site which uses them: rules may know
these names, as they know those of elements. All other classes are a site's own."""
_HOST = re.compile(r"(?<=//)([a-z0-9-]+\.)+[a-z]{2,}(?=[/\"'\s?:#&\\]|$)", re.IGNORECASE)
_CLASSES = re.compile(r"""(?<=\sclass=)("[^"]*"|'[^']*')""")


def run_scorer(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    """Run the scorer on a folder, with `extract` in place of a command; return its lines."""
    path = shared("tools") / "score_extraction.py"
    spec = importlib.util.spec_from_file_location("score_extraction", path)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run_extract))
    monkeypatch.setattr(sys, "argv", [str(path), str(folder), "--command", "extract", "--verbose"])
    code = module.main()
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    return lines


def run_extract(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Do what `extract PAGE --url URL` does."""
    assert options["capture_output"]
    _, page, option, url = command
    assert option == "--url", shlex.join(command)
    figures = extract(html_of(Path(page)), url)
    rows = [
        {"image_url": f.image_url, "caption": f.caption, "section": f.section, "text": f.text}
        for f in figures
    ]
    return subprocess.CompletedProcess(command, 0, "\n".join(map(json.dumps, rows)), "")


def html_of(page: Path) -> str:
    text = page.read_bytes().decode("utf-8-sig")
    if page.suffix != ".json":
        return text
    found = html_of_api_answer(json.loads(text))
    assert found is not None
    return found[1]


def totals(line: str) -> dict[str, float]:
    found = re.findall(r"(recall|precision|heading|prose) (\d\.\d+)", line)
    return {name: float(value) for name, value in found}


def test_the_score_on_saved_pages(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    score = totals(run_scorer(shared("webdata"), monkeypatch, capsys)[-1])
    assert len(score) == 4 and min(score.values()) >= LEAST, score


def test_the_score_does_not_hang_on_the_names_of_sites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """With hosts and the classes of sites renamed all over, every page scores what it did."""
    before = run_scorer(shared("webdata"), monkeypatch, capsys)
    num_renamed = sum(
        write_renamed(path, tmp_path) for path in shared("webdata").rglob("*.expected.json")
    )
    assert num_renamed > 1000
    after = run_scorer(tmp_path, monkeypatch, capsys)
    assert sorted(map(words_of, after)) == sorted(map(words_of, before))


def words_of(line: str) -> list[str]:
    """Return the words of a line of the scorer, without the end of the page's name."""
    return line.replace(".json ", ".html ").split()


def write_renamed(expected: Path, folder: Path) -> int:
    """Write a page and what is expected of it with other names; return how many classes changed."""
    wanted = json.loads(renamed_hosts(expected.read_text(encoding="utf-8")))
    page = expected.parent / json.loads(expected.read_text(encoding="utf-8"))["page"]
    html, num_renamed = renamed_classes(renamed_hosts(html_of(page)))
    wanted["page"] = page.with_suffix(".html").name
    (folder / wanted["page"]).write_text(html, encoding="utf-8")
    (folder / expected.name).write_text(json.dumps(wanted), encoding="utf-8")
    return num_renamed


def renamed_hosts(text: str) -> str:
    return _HOST.sub(lambda found: f"h{digest(found[0].lower())}.example", text)


def renamed_classes(html: str) -> tuple[str, int]:
    names: set[str] = set()

    def change(found: re.Match[str]) -> str:
        kept = []
        for name in found[0][1:-1].split():
            if not SYSTEMS.match(name):
                names.add(name)
                name = f"c{digest(name)}"
            kept.append(name)
        return f'"{" ".join(kept)}"'

    return _CLASSES.sub(change, html), len(names)


def digest(name: str) -> str:
    """Return a name that has no word in it."""
    return hashlib.sha256(name.encode()).hexdigest()[:10].translate(_NO_WORDS)


_NO_WORDS = str.maketrans("0123456789abcdef", "qxzjkvwqxzjkvwqx")

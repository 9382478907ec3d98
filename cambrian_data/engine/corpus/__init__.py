"""The embedded corpus: article pages, their pictures and a small instruction set.

All words and pictures were made for this project and are given away under CC0-1.0, so that the
whole way from a topic to training data runs without a network. Addresses are under
https://corpus.invalid, a name that no server can have. Only the standard library is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FOLDER = Path(__file__).parent
_HOST = "corpus.invalid"
_PICTURE = re.compile(r"/images/(?P<name>\w[\w.-]*)")
_THUMBNAIL = re.compile(r"/images/thumb/(?P<name>\w[\w.-]*)/\d+px-(?P=name)(?:\.png)?")

INSTRUCTIONS = _FOLDER / "instructions.jsonl"
"""Rows in the LLaVA shape, a few of them faulty on purpose (corpus.json, `instruction_faults`)."""
INSTRUCTION_IMAGES = _FOLDER / "instructions_images"
"""Folder that the `image` of these rows is relative to."""


class CorpusMiss(KeyError):
    """An address that belongs to no page or picture of the corpus."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"not in the corpus: {self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPage:
    """One article: where it claims to come from and what it is about."""

    url: str
    title: str
    language: str
    field: str
    """Field of science: Physics, Chemistry or Earth science."""
    subfield: str
    topics: tuple[str, ...]
    """What a reader would search for to find this page."""
    path: Path


def _address_path(url: str) -> str | None:
    """The decoded path of an address on the corpus's host; None elsewhere."""
    try:
        parts = urlsplit(url)
        is_ours = parts.scheme in ("", "http", "https") and parts.hostname == _HOST
    except ValueError:
        return None
    return unquote(parts.path) if is_ours else None


class Corpus:
    """The pages and pictures under one folder, found by their addresses."""

    def __init__(self, folder: Path) -> None:
        """Read the index of a folder; pages and pictures are read when they are asked for."""
        index = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        self.date: str = index["date"]
        self.license: str = index["license"]
        self.license_url: str = index["license_url"]
        self.author: str = index["author"]
        self.pages: tuple[CorpusPage, ...] = tuple(
            CorpusPage(
                url=entry["url"],
                title=entry["title"],
                language=entry["language"],
                field=entry["field"],
                subfield=entry["subfield"],
                topics=tuple(entry["topics"]),
                path=folder / entry["file"],
            )
            for entry in index["pages"]
        )
        self._images = folder / "images"
        self._by_path = {_address_path(page.url): page for page in self.pages}

    @cached_property
    def sha256(self) -> str:
        """Hash of the index, every page and every picture: another corpus gives another run."""
        digest = hashlib.sha256()
        pages = [page.path for page in self.pages]
        for path in sorted([self._images.parent / "corpus.json", *self._images.iterdir(), *pages]):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def page(self, url: str) -> CorpusPage | None:
        """Find a page by its address, whatever its escapes, query and fragment."""
        path = _address_path(url)
        return None if path is None else self._by_path.get(path)

    def read_page(self, url: str) -> bytes:
        """The HTML of a page, UTF-8.

        Raises:
            CorpusMiss: no page has this address.
        """
        page = self.page(url)
        if page is None:
            raise CorpusMiss(url)
        return page.path.read_bytes()

    def read_picture(self, url: str) -> bytes:
        """The file of a picture; a thumbnail's address gives the original.

        Raises:
            CorpusMiss: no picture has this address.
        """
        path = _address_path(url) or ""
        match = _PICTURE.fullmatch(path) or _THUMBNAIL.fullmatch(path)
        if match is None:
            raise CorpusMiss(url)
        file = self._images / match["name"]
        if not file.is_file():
            raise CorpusMiss(url)
        return file.read_bytes()


@cache
def load_corpus(folder: Path | None = None) -> Corpus:
    """Open the embedded corpus, or another one of the same layout; opened once per folder."""
    return Corpus(_FOLDER if folder is None else folder)

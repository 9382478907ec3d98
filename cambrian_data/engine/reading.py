"""Reading one page: fetched, its figures extracted, their pictures checked and kept.

What a page cannot give becomes a row of drops with its reason; nothing is raised for it. What may
work on a later run (a time-out, a host that asks to slow down) is counted as passing, so that the
unit it belongs to is tried again then. A picture's fate is noted beside the HTTP cache: one that
was kept or refused is not fetched twice, whatever run asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cambrian_data.engine import extract
from cambrian_data.engine.fetch import Fetcher, FetchError, PictureFacts, page_row
from cambrian_data.engine.images import ImagesConfig, PictureError
from cambrian_data.pictures import keep_picture
from cambrian_data.records import content_id, drop, figure_id
from cambrian_data.web.cache import HttpCache
from cambrian_data.workspace import Workspace, is_intact

Row = dict[str, Any]

PICTURES_VERSION = "1"
"""Raised when the treatment of pictures changes what is kept: earlier notes count no more."""
_NOTES = "picture"
NOT_MODIFIED = 304
_NUM_LOCKS = 256


@dataclass(slots=True)
class PageRead:
    """What one address gave, as rows, with the files of its pictures."""

    pages: list[Row] = field(default_factory=list)
    figures: list[Row] = field(default_factory=list)
    images: list[Row] = field(default_factory=list)
    drops: list[Row] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    num_passing: int = 0


class PictureKeeper:
    """Fetches pictures, checks them, and stores them by content."""

    def __init__(
        self,
        workspace: Workspace,
        fetcher: Fetcher,
        config: ImagesConfig,
        cache: HttpCache | None = None,
        *,
        refresh_since: str | None = None,
    ) -> None:
        """Name what is used.

        Args:
            workspace: keeps the pictures.
            fetcher: reads them.
            config: which are kept.
            cache: holds the notes on what became of each address; none for the corpus.
            refresh_since: notes from before this time (ISO 8601, UTC) count no more.
        """
        self._workspace, self._fetcher, self._config = workspace, fetcher, config
        self._cache, self._since = cache, refresh_since or ""
        self._salt = content_id(PICTURES_VERSION, config.model_dump(exclude={"require_license"}))
        self._alone = [threading.Lock() for _ in range(_NUM_LOCKS)]
        self._decoding = threading.Lock()  # one large picture in memory at a time

    def keep(self, url: str, facts: PictureFacts) -> tuple[Row, Path]:
        """Return a picture's row of `images` and its file.

        Raises:
            FetchError: it cannot be had.
            PictureError: it is none, or none that the recipe allows.
        """
        self._check_license(facts)
        key = content_id(self._salt, url)
        with self._alone[int(key[:8], 16) % len(self._alone)]:  # several pages may show one picture
            note = self._cache.note(_NOTES, key) if self._cache else None
            if note and not self._is_whole(note):
                note = None
            if note is None or note["checked_at"] < self._since:
                note = self._fetch(url, key, note or {})
        if "reason" in note:
            raise PictureError(note["reason"], note["detail"])
        known = {
            "source_url": url,
            "license": facts.license,
            "license_url": facts.license_url,
            "author": facts.author,
            "description_url": facts.description_url,
        }
        return {**note["row"], **known}, self._workspace.root / note["row"]["path"]

    def _is_whole(self, note: Row) -> bool:
        """Whether the picture that a note speaks of is still there."""
        row = note.get("row")
        if row is None:
            return True
        return is_intact(self._workspace.root / row["path"], row)

    def _fetch(self, url: str, key: str, known: Row) -> Row:
        """Fetch and store a picture, unless the server says that it is the one we have."""
        fetched = self._fetcher.picture(
            url, etag=known.get("etag"), last_modified=known.get("last_modified")
        )
        note: Row = {
            "checked_at": self._since or fetched.fetched_at,
            "etag": fetched.etag,
            "last_modified": fetched.last_modified,
        }
        if fetched.status == NOT_MODIFIED:
            note = {**known, "checked_at": note["checked_at"]}
        else:
            try:
                with self._decoding:
                    note["row"], _ = keep_picture(self._workspace, fetched.body, self._config)
            except PictureError as error:
                if error.is_passing:
                    raise
                note |= {"reason": error.reason, "detail": error.detail}
        if self._cache and note.get("reason") != "not_a_picture":  # a sign-in page may go away
            self._cache.put_note(_NOTES, key, note)
        return note

    def _check_license(self, facts: PictureFacts) -> None:
        wanted = self._config.require_license
        if not wanted:
            return
        given = (facts.license or "").casefold()
        if not given or not any(fnmatchcase(given, pattern.casefold()) for pattern in wanted):
            shown = facts.license or "not known"
            raise PictureError("license", f"its licence is {shown}; wanted: {', '.join(wanted)}")


class PageReader:
    """Reads pages one by one."""

    def __init__(
        self, fetcher: Fetcher, pictures: PictureKeeper, config: extract.ExtractConfig
    ) -> None:
        self._fetcher, self._pictures, self._config = fetcher, pictures, config
        self._parsing = threading.Lock()  # it holds the GIL anyhow; so one large tree at a time

    def read(self, url: str) -> PageRead:
        """Return what an address gives."""
        read = PageRead()
        try:
            fetched = self._fetcher.page(url)
        except FetchError as error:
            read.drops.append(drop("fetch", url, error.reason, detail=error.detail, source=url))
            read.num_passing += error.is_passing
            return read
        page = page_row(fetched)
        read.pages.append(page)
        self._extract(page, fetched.body, read)
        facts = self._fetcher.picture_facts(
            page["final_url"], sorted({figure["image_url"] for figure in read.figures})
        )
        read.num_passing += sum(fact.is_passing for fact in facts.values())
        for figure in read.figures:
            if fetched.no_pictures:
                read.drops.append(_picture_drop(figure, "opted_out", fetched.no_pictures))
            else:
                self._keep(figure, facts, read)
        return read

    def _extract(self, page: Row, body: bytes, read: PageRead) -> None:
        """Add the figures of a page, and drops for those that the recipe refuses."""
        source = page["final_url"]
        try:
            with self._parsing:
                found = extract.extract(body, source)
        except extract.PageError as error:
            read.drops.append(
                drop("extract", page["id"], "unreadable", detail=str(error), source=source)
            )
            return
        kept, refused = extract.filter_figures(found, self._config)
        read.figures += [_figure_row(figure, page["id"]) for figure in kept]
        read.drops += [
            drop(
                "extract",
                _figure_row(figure, page["id"])["id"],
                reason,
                detail=detail,
                source=source,
                raw=f"{figure.image_url}\n{figure.caption or ''}",
            )
            for figure, reason, detail in refused
        ]
        if not found:
            read.drops.append(drop("extract", page["id"], "no_figures", source=source))

    def _keep(self, figure: Row, facts: Mapping[str, PictureFacts], read: PageRead) -> None:
        """Add a figure's picture, or a drop with the reason why it has none."""
        url = figure["image_url"]
        try:
            row, path = self._pictures.keep(url, facts.get(url, PictureFacts()))
        except (FetchError, PictureError) as error:
            read.num_passing += error.is_passing
            read.drops.append(_picture_drop(figure, error.reason, error.detail))
        else:
            figure["image_sha256"] = row["sha256"]
            read.images.append(row)
            read.files.append(path)


def _picture_drop(figure: Row, reason: str, detail: str) -> Row:
    source, raw = figure["image_url"], figure["caption"]
    return drop("images", figure["id"], reason, detail=detail, source=source, raw=raw)


def _figure_row(figure: extract.Figure, page: str) -> Row:
    section = list(figure.section)
    return {
        "id": figure_id(page, figure.image_url, figure.caption or "", section),
        "page_id": page,
        "image_url": figure.image_url,
        "image_sha256": None,
        "caption": figure.caption,
        "alt": figure.alt,
        "section": section,
        "text": figure.text,
        "position": figure.position,
    }


def merged(reads: Sequence[PageRead]) -> PageRead:
    """Return what several addresses gave as one."""
    return PageRead(
        pages=[row for read in reads for row in read.pages],
        figures=[row for read in reads for row in read.figures],
        images=[row for read in reads for row in read.images],
        drops=[row for read in reads for row in read.drops],
        files=[path for read in reads for path in read.files],
        num_passing=sum(read.num_passing for read in reads),
    )

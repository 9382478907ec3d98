"""A set that a mixture may not overlap with: what its rows say and show, ready to be looked up.

Runs of words of all rows, sorted, with the rows that say them; keys and perceptual hashes of all
pictures. Kept as arrays in a folder and mapped into memory: 12 bytes for each run of words and 24
for each picture. Rows that say the same are one; long rows are sampled by hash, so that a row takes
at most some 64 runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import Field

from cambrian_data.build import MANIFEST
from cambrian_data.curation.duplicates.hamming import MAX_RADIUS
from cambrian_data.curation.duplicates.same_picture import SIDE
from cambrian_data.curation.overlaps.against_rows import Batch, FileRows, sample_rows
from cambrian_data.curation.overlaps.said import said, words_said
from cambrian_data.curation.words import mix
from cambrian_data.recipes import Config
from cambrian_data.records import UserError, content_id
from cambrian_data.workspace import Workspace, file_sha256, read_sealed, remove

SET_VERSION = "1"
MAX_RUNS = 150_000_000
"""Runs of words that a set may hold: 12 bytes each, and as much again while it is made."""

_ROW_RUNS = 64
_ARRAYS = (
    *("grams", "gram_starts", "gram_rows", "row_grams", "row_shift"),
    *("picture_keys", "picture_rows", "phash", "signatures", "id_bytes", "id_ends"),
)


class AgainstConfig(Config):
    """What counts as standing in another set. The reasons are in docs/overlap.md."""

    text: bool = True
    """Whether texts are compared."""
    pictures: bool = True
    """Whether pictures are compared."""
    ngram_words: int = Field(default=13, ge=3, le=50)
    """Words in a run. Source: Brown et al., arXiv 2005.14165, appendix C."""
    min_words: int = Field(default=8, ge=1)
    """Shorter texts say nothing. From here up to a run, a text is compared as a whole."""
    min_share: float = Field(default=0.5, gt=0, le=1)
    """A sample matches a row when it shares this part of the runs of whichever has fewer."""
    min_question_words: int = Field(default=30, ge=1)
    """A shorter question about a picture is asked about many pictures: it is not compared."""
    max_rows: int = Field(default=8, ge=1)
    """A run of words in more rows of the set is a template: it is not compared."""
    picture_radius: int = Field(default=4, ge=0, le=MAX_RADIUS)
    """Bits of 64 in which the hashes of look-alikes may differ."""
    max_group: int = Field(default=50, ge=1)
    """A picture of the set with more look-alikes is a drawing of a common kind: only the same
    content counts."""
    confirm: bool = True
    """Whether look-alikes are opened and compared."""


@dataclass(frozen=True)
class AgainstSet:
    """A set as arrays; `AgainstSet.build` makes one, `AgainstSet.load` opens it."""

    folder: Path
    name: str
    content_key: str
    """Changes with the set's content and with the settings that it was made with."""
    num_rows: int
    about: dict[str, Any]
    """Counts: rows, rows that say nothing that can be compared, what was skipped, pictures."""
    grams: np.ndarray
    """uint64 [g], ascending: runs of words."""
    gram_starts: np.ndarray
    """int64 [g + 1]: where the rows of each begin in `gram_rows`."""
    gram_rows: np.ndarray
    """int32."""
    row_grams: np.ndarray
    """int32 [rows]: the runs of each row that can be compared (estimated where sampled)."""
    row_shift: np.ndarray
    """uint8 [rows]: of 2 ** shift runs of a row one was kept."""
    picture_keys: np.ndarray
    """uint64 [p, 2], ascending."""
    picture_rows: np.ndarray
    """int32 [p]: the first row that shows each."""
    phash: np.ndarray
    """uint64 [p]; 0 where it is not known, or must be asked of the workspace's pictures."""
    signatures: np.ndarray
    """uint8 [p, SIDE, SIDE] of a file's pictures; none for sets within the workspace."""
    id_bytes: np.ndarray
    id_ends: np.ndarray

    @classmethod
    def build(
        cls,
        workspace: Workspace,
        name_or_path: str,
        config: AgainstConfig,
        *,
        folder: Path,
        images: Path | None = None,
    ) -> AgainstSet:
        """Return a set, made under `folder` unless it is there already.

        Args:
            name_or_path: a data set of the pool, a mixture (`pool:NAME` and `mixture:NAME` say
                which), or the path of a file.
            images: the folder that the paths of a file's pictures start in; without it a file's
                pictures are compared by their paths alone.
        Raises:
            UserError: there is no such set, or it has no rows.
        """
        where = _find(workspace, name_or_path)
        made_with = config.model_dump(include={"ngram_words", "min_words", "max_rows"})
        key = content_id(SET_VERSION, made_with, _identity(where, images))
        target = folder / f"against-{key[:24]}"
        if not (target / "about.json").is_file():
            skipped: dict[str, int] = {}
            if where.is_dir():
                arrays, about = _gather(sample_rows(where), config)
            else:
                rows = FileRows(where, images, workspace.tmp)
                arrays, about = _gather(rows.batches(), config)
                skipped = dict(sorted(rows.skipped.items()))
            if not about["rows"]:
                raise UserError(f"--against {name_or_path!r} {_why_empty(where, skipped)}")
            about |= {"name": name_or_path, "key": key, "skipped": skipped}
            _save(workspace, target, arrays, about)
        return cls.load(target)

    @classmethod
    def load(cls, folder: Path) -> AgainstSet:
        """Open a set that was made; its arrays stay on disk until they are used."""
        about = orjson.loads((folder / "about.json").read_bytes())
        arrays = {name: _mapped(folder / f"{name}.npy") for name in _ARRAYS}
        return cls(folder, about["name"], about["key"], about["rows"], about, **arrays)

    def row_name(self, row: int) -> str:
        """Return a row's own id, or its file and line."""
        start = int(self.id_ends[row - 1]) if row else 0
        return bytes(self.id_bytes[start : int(self.id_ends[row])]).decode()

    def names(self, rows: np.ndarray) -> list[str]:
        """Return the names of rows."""
        return [self.row_name(row) for row in rows.tolist()]

    @cached_property
    def _sieve(self) -> tuple[np.ndarray, np.uint64]:
        """Return a table that tells most runs that the set lacks, and how to look into it."""
        bits = int(np.clip(np.ceil(np.log2(max(len(self.grams), 1) * 8)), 10, 27))
        shift = np.uint64(64 - bits)
        table = np.zeros(1 << bits, dtype=bool)
        table[self.grams >> shift] = True
        return table, shift

    def look_up(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which runs of words the set has: their places in `values` and in `grams`."""
        table, shift = self._sieve
        maybe = np.flatnonzero(table[values >> shift])
        place = np.searchsorted(self.grams, values[maybe])
        place = np.minimum(place, len(self.grams) - 1)
        has = self.grams[place] == values[maybe] if len(self.grams) else np.zeros(len(maybe), bool)
        return maybe[has], place[has]


def _find(workspace: Workspace, name: str) -> Path:
    area, _, rest = name.partition(":")
    wanted = {"pool": ["pool"], "mixture": ["mixtures"]}.get(area, ["pool", "mixtures"])
    own = rest if area in ("pool", "mixture") else name
    for place in wanted:
        if own in workspace.names(place):
            return workspace.root / place / own
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        raise UserError(f"--against {name!r} is no ordinary file (a device or a pipe)")
    known = ", ".join([*workspace.names("pool"), *workspace.names("mixtures")]) or "none"
    raise UserError(
        f"--against {name!r} is neither a data set of the pool nor a mixture ({known}), and there "
        "is no such file"
    )


def _why_empty(where: Path, skipped: Mapping[str, int]) -> str:
    """Return why nothing is left of a set, and what to do."""
    if skipped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in skipped.items())
        return (
            f"has {sum(skipped.values()):,} row(s), none of them readable ({reasons}); give "
            "another file or mend this one"
        )
    if where.is_dir():
        return "holds no rows: name a data set of the pool, a mixture or a file of rows"
    return "holds no rows: give another file, or leave it out"


def _identity(where: Path, images: Path | None) -> Any:
    """Return what the rows depend on, as JSON data."""
    if where.is_dir() and (manifest := read_sealed(where / MANIFEST)):
        return ["workspace", manifest["key"]]
    files = sorted(p for p in where.rglob("*") if p.is_file()) if where.is_dir() else [where]
    content = [[path.name, file_sha256(path)] for path in files]
    if images is None:
        return [content, None]
    if not images.is_dir():
        raise UserError(f"there is no folder {str(images)!r} of pictures")
    listed = sorted(path for path in images.rglob("*") if path.is_file())
    stats = [(path, path.stat()) for path in listed]
    return [
        content,
        [[str(path.relative_to(images)), s.st_size, s.st_mtime_ns] for path, s in stats],
    ]


# ---------------------------------------------------------------------------------- making


def _gather(
    batches: Iterable[Batch], config: AgainstConfig
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a set, and counts."""
    ids: list[str] = []
    runs: list[tuple[np.ndarray, np.ndarray]] = []
    prints: list[np.ndarray] = []
    shifts: list[np.ndarray] = []
    pictures: list[Batch] = []
    num_runs = 0
    for batch in batches:
        values, row, shift, fingerprint = _row_runs(batch, len(ids), config)
        runs.append((values, (row + len(ids)).astype(np.int32)))
        num_runs += len(values)
        if num_runs > MAX_RUNS:
            raise UserError(
                f"the set to compare with has more than {MAX_RUNS:,} runs of words; compare with "
                "parts of it, one after the other"
            )
        shifts.append(shift)
        prints.append(fingerprint)
        batch.key_row = batch.key_row + len(ids)
        ids += batch.ids
        pictures.append(_without_texts(batch))
    fingerprint = np.concatenate(prints or [np.empty(0, np.uint64)])
    # Rows that say the same count once, else a set's own duplicates would look like templates.
    _, first, inverse = np.unique(fingerprint, return_index=True, return_inverse=True)
    is_first = first[inverse] == np.arange(len(ids)) if len(ids) else np.empty(0, bool)
    for number, (values, row) in enumerate(runs):
        runs[number] = (values[is_first[row]], row[is_first[row]])
    shift = np.concatenate(shifts or [np.empty(0, np.uint8)])
    arrays = _index(runs, shift, config) | _pictures_of(pictures)
    encoded = [one.encode() for one in ids]
    arrays["id_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
    arrays["id_ends"] = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    says_nothing = (arrays["row_grams"] == 0) & is_first
    about = {
        "rows": len(ids),
        "rows_alike": int((~is_first).sum()),
        "rows_without_text": int(says_nothing.sum()),
        "pictures": len(arrays["picture_keys"]),
        "runs": len(arrays["grams"]),
    }
    return arrays, about


def _row_runs(
    batch: Batch, first_row: int, config: AgainstConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a batch's runs of words, each once a row, sampled where a row has many.

    Returns:
        The runs and their rows; for every row how it was sampled, and a hash of all it says.
    """
    words = words_said(batch.texts)
    found = said(words, ngram_words=config.ngram_words, min_words=config.min_words)
    row = batch.text_row[found.text]
    order = np.lexsort((found.values, row))
    values, row = found.values[order], row[order]
    is_new = np.r_[True, (values[1:] != values[:-1]) | (row[1:] != row[:-1])][: len(values)]
    values, row = values[is_new], row[is_new]
    count = np.bincount(row, minlength=len(batch.ids))
    shift = np.ceil(np.log2(np.maximum(count / _ROW_RUNS, 1))).astype(np.uint8)
    low = (np.uint64(1) << shift.astype(np.uint64)) - np.uint64(1)
    is_kept = values & low[row] == 0
    says = np.flatnonzero(count)
    whole = mix(np.arange(len(count)).astype(np.uint64) + np.uint64(first_row))
    if len(says):  # rows that say the same have the same sum, those that say nothing are no two
        sums = np.add.reduceat(values, np.cumsum(count[says]) - count[says])
        whole[says] = mix(sums + count[says].astype(np.uint64))
    return values[is_kept], row[is_kept], shift, whole


def _without_texts(batch: Batch) -> Batch:
    return Batch(
        [], keys=batch.keys, key_row=batch.key_row, phash=batch.phash, signatures=batch.signatures
    )


def _index(
    runs: list[tuple[np.ndarray, np.ndarray]], shift: np.ndarray, config: AgainstConfig
) -> dict[str, np.ndarray]:
    """Sort the runs of all rows, and leave out the templates among them."""
    values = np.concatenate([np.empty(0, np.uint64), *(run[0] for run in runs)])
    rows = np.concatenate([np.empty(0, np.int32), *(run[1] for run in runs)])
    runs.clear()
    order = np.argsort(values, kind="stable")
    values, rows = values[order], rows[order]
    grams, counts = np.unique(values, return_counts=True)
    is_own = counts <= config.max_rows
    rows = rows[np.repeat(is_own, counts)]
    kept = np.bincount(rows, minlength=len(shift)) << shift.astype(np.int64)
    return {
        "grams": grams[is_own],
        "gram_starts": np.concatenate([[0], np.cumsum(counts[is_own])]).astype(np.int64),
        "gram_rows": rows,
        "row_grams": kept.astype(np.int32),
        "row_shift": shift,
    }


def _pictures_of(batches: list[Batch]) -> dict[str, np.ndarray]:
    """Sort the pictures of all rows, each once, with the first row that shows it."""
    keys = np.concatenate([np.empty((0, 2), np.uint64), *(batch.keys for batch in batches)])
    rows = np.concatenate([np.empty(0, np.int64), *(batch.key_row for batch in batches)])
    phash = np.concatenate([np.empty(0, np.uint64), *(batch.phash for batch in batches)])
    order = np.lexsort((rows, keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    order = order[np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)][: len(order)]]
    none = np.empty((0, SIDE, SIDE), np.uint8)
    found = [none]
    if any(len(batch.signatures) for batch in batches):  # not every part of a file need have any
        unread = (np.zeros((len(batch.keys), SIDE, SIDE), np.uint8) for batch in batches)
        found += [
            batch.signatures if len(batch.signatures) else other
            for batch, other in zip(batches, unread, strict=True)
        ]
    signatures = np.concatenate(found)
    return {
        "picture_keys": keys[order],
        "picture_rows": rows[order].astype(np.int32),
        "phash": phash[order],
        "signatures": signatures[order] if len(signatures) else none,
    }


def _save(
    workspace: Workspace, target: Path, arrays: dict[str, np.ndarray], about: dict[str, Any]
) -> None:
    """Write the arrays aside and rename the folder, so that it is whole or not there."""
    scratch = workspace.scratch()
    scratch.mkdir(parents=True)
    try:
        for name in _ARRAYS:
            np.save(scratch / f"{name}.npy", arrays[name])
        (scratch / "about.json").write_bytes(orjson.dumps(about, option=orjson.OPT_SORT_KEYS))
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(target)
        scratch.replace(target)
    finally:
        remove(scratch)


def _mapped(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)
    return array

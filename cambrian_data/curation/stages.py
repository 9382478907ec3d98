"""What curation does part by part, as stages of units, and what lies between them on disk.

    index    each part -> numbers of its rows, verdicts of the rules
    overlap  each part -> rows that stand in a benchmark or in another set
    shingles each part -> word 5-grams of the rows that share their pictures

Plain data goes in and files come out, so that any number of workers on any number of machines gives
the same bytes; no table of the whole pool is ever held. All of it lies in `curation/<key>` and is
used again as long as pool and rules are the same, so that another cap, size or ratio costs seconds.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cambrian_data.curation import parts
from cambrian_data.curation.decide import Fates
from cambrian_data.curation.duplicates.dedup import preference
from cambrian_data.curation.duplicates.look_alikes import (
    Pictures,
    group_table,
    groups,
    load_pictures,
)
from cambrian_data.curation.duplicates.near import Near, Shingles, near_duplicates
from cambrian_data.curation.duplicates.picture_dedup import removed
from cambrian_data.curation.duplicates.same_picture import StoredPictures
from cambrian_data.curation.index import INDEX_VERSION, IndexConfig, Rows, load_rows
from cambrian_data.curation.overlaps.against_set import AgainstSet
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.rules.quality import check_scores
from cambrian_data.curation.rules.scores import ScoreTable
from cambrian_data.pool import PoolPart, dataset_manifests, pool_parts
from cambrian_data.records import CLUSTER, bytes_id, content_id
from cambrian_data.units import Stage, Units
from cambrian_data.workspace import Workspace, remove

CURATE_VERSION = "2"
KEY_DIGITS = 16
KEPT = 3
"""So many curations are kept up to the plan: some 130 bytes a row, and 1 KB a candidate."""


@dataclass(frozen=True, slots=True)
class Curation:
    """One pool and the rules on its rows, up to the plan of a mixture."""

    workspace: Workspace
    recipe: CurateRecipe
    pool: tuple[PoolPart, ...]
    scores_key: str
    sets_key: str
    """What the other sets hold that the pool is compared with."""

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        recipe: CurateRecipe,
        pool: tuple[PoolPart, ...],
        sets: Sequence[AgainstSet],
    ) -> Curation:
        """Name the pool's parts and the sets that it is compared with."""
        scores = ScoreTable.load(_paths(recipe.scores)) if recipe.scores else None
        check_scores(recipe.quality, scores)
        key = scores.content_key if scores else ""
        return cls(workspace, recipe, pool, key, content_id([s.content_key for s in sets]))

    @property
    def key(self) -> str:
        """The hash of all that decides before the plan."""
        rules = self.recipe.model_dump(
            mode="json", include={"checks", "quality", "dedup", "pictures", "overlap"}
        )
        inputs = [[part.dataset, part.sha256] for part in self.pool]
        return content_id(
            CURATE_VERSION, rules, self.index_config.model_dump(), inputs, self.sets_key
        )

    @property
    def folder(self) -> Path:
        """Where the work before the plan lies."""
        return self.workspace.root / "curation" / self.key[:KEY_DIGITS]

    @property
    def index_config(self) -> IndexConfig:
        """What the index of a part depends on beside the part."""
        mixture = self.recipe.mixture
        return IndexConfig(
            checks=self.recipe.checks,
            quality=self.recipe.quality,
            scores=tuple(str(path) for path in _paths(self.recipe.scores)),
            scores_key=self.scores_key,
            choice_score=mixture.score if mixture.choice == "quality" else None,
            with_opening=mixture.choice == "diverse",
        )

    def _units(self, stage: str, *config: Any) -> Units:
        return Units(self.workspace, self.folder, stage, version=CURATE_VERSION, config=config)

    # ------------------------------------------------------------------------------- stages

    def index_stage(self) -> Stage:
        """Return the stage that makes the index of a part; its pieces are `pieces()`."""
        units = self._units("index", INDEX_VERSION, self.index_config.model_dump(mode="json"))
        return Stage(units, partial(parts.index_work, self.workspace, self.index_config))

    def pieces(self, *more: Any) -> list[list[Any]]:
        """Return every part as a piece."""
        return [part.piece(*more) for part in self.pool]

    def overlap_stage(self, number: int, folder: Path) -> Stage:
        """Return the stage that compares a part with a set; its pieces are `pieces(set's key)`."""
        config = self.recipe.overlap
        units = self._units(f"overlap-{number}", config.model_dump(mode="json"))
        work = partial(parts.overlap_work, self.workspace, config, folder, str(number))
        return Stage(units, work)

    def shingle_stage(self) -> Stage:
        """Return the stage that makes shingles; its pieces are `shingle_pieces`."""
        config = self.recipe.dedup.near
        units = self._units("shingles", config.model_dump(mode="json"))
        return Stage(units, partial(parts.shingle_work, self.workspace, self.folder, config))

    def shingle_pieces(self, rows: Rows, candidates: np.ndarray) -> list[list[Any]]:
        """Write down which rows of every part are candidates; return the parts that have any."""
        pieces = []
        for number, part in enumerate(self.pool):
            low, high = np.searchsorted(candidates, rows.starts[number : number + 2])
            if low == high:
                continue
            buffer = io.BytesIO()
            np.save(buffer, candidates[low:high] - rows.starts[number])
            data = buffer.getvalue()
            name = f"candidates/{number:06d}-{bytes_id(data)[:20]}.npy"
            path = self.folder / name
            if not path.is_file() or path.read_bytes() != data:
                self.workspace.write_bytes(path, data)
            pieces.append(part.piece(number, name))
        return pieces

    def is_unchanged(self, datasets: Sequence[str]) -> bool:
        """Whether the data sets still are what this curation was made of."""
        return pool_parts(self.workspace, dataset_manifests(self.workspace, datasets)) == self.pool

    # ------------------------------------------------------------------------------ decide

    def load(self) -> Rows:
        """Put the indexes of all parts together."""
        return load_rows([self.folder / parts.index_file(part) for part in self.pool])

    def overlaps(self, fates: Fates, number: int) -> pa.Table:
        """Drop the rows that stand in a set; return its matches."""
        tables, starts = [], fates.rows.starts.tolist()
        for start, part in zip(starts, self.pool, strict=False):
            table = parts.read_overlaps(self.folder / parts.overlap_file(part, str(number)))
            found = {
                start + row["row"]: (row["reason"], row["detail"])
                for row in table.select(["row", "reason", "detail"]).to_pylist()
            }
            fates.drop_explained("decontaminate", found)
            tables.append(table.drop_columns(["row", "reason", "detail"]))
        return pa.concat_tables(tables)

    def near(self, rows: Rows, candidates: np.ndarray, sets: np.ndarray, rank: np.ndarray) -> Near:
        """Return the near duplicates among the candidates, by their place among all rows."""
        found = []
        for number, part in enumerate(self.pool):
            path = self.folder / parts.shingles_file(part, number)
            low, high = np.searchsorted(candidates, rows.starts[number : number + 2])
            if low < high:
                found.append(Shingles.load(path))
        near = near_duplicates(
            found,
            groups=sets[candidates],
            rank=rank[candidates],
            threshold=self.recipe.dedup.near.threshold,
            scratch=self.workspace.tmp,
        )
        keeper, similarity = np.arange(len(rows)), np.ones(len(rows), dtype=np.float32)
        keeper[candidates] = candidates[near.keeper]
        similarity[candidates] = near.similarity
        return Near(keeper, similarity)

    # ------------------------------------------------------------------------------ pictures

    def look_alikes(self, rows: Rows) -> LookAlikes | None:
        """Return which of the pool's pictures look alike; None where none was read."""
        pictures = load_pictures(self.workspace).named(np.unique(rows.pictures))
        if not len(pictures):
            return None
        config = self.recipe.pictures
        confirm = StoredPictures(self.workspace, pictures) if config.confirm else None
        alike = groups(pictures, config.radius, max_group=config.max_group, confirm=confirm)
        return LookAlikes(pictures, alike)

    def remove_pictures(self, fates: Fates, alike: LookAlikes) -> None:
        """Drop the rows whose picture is a copy of another's, where the recipe wants that."""
        rows = fates.rows
        counts = np.diff(rows.picture_ends, prepend=0)
        row = np.repeat(np.arange(len(rows)), counts)
        alive = fates.is_alive[row]
        place = alike.find(rows.pictures[alive])
        lost = removed(
            row[alive],
            place,
            rows.source[row[alive]],
            group=alike.group,
            source_rank=source_rank(rows, self.recipe),
            pictures=alike.pictures,
            num_rows=len(rows),
        )
        details = lost.details(alike.pictures, rows.sources).to_pylist()
        found = {
            number: ("picture_duplicate", detail)
            for number, detail in zip(lost.rows.tolist(), details, strict=True)
        }
        fates.drop_explained("picture_dedup", found)


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """The pool's pictures, and for each the one that it counts as."""

    pictures: Pictures
    group: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the place of pictures (the first 64 bits of their hashes); -1 where unread."""
        known = self.pictures.sha256[:, 0]
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[place] == keys, place, -1)

    def stands_for(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pictures and the ones that they count as, by 64 bits."""
        known = np.ascontiguousarray(self.pictures.sha256[:, 0])
        return known, known[self.group]

    def clusters(self) -> pa.Table:
        """Return the groups of more than one picture as rows of `CLUSTER`, by content hash."""
        found = group_table(self.pictures, self.group, None)
        stage = pa.array(["picture_dedup"] * len(found), pa.string())
        return pa.Table.from_arrays([stage, *found.columns], schema=CLUSTER)

    def numbers(self) -> dict[str, int]:
        """Return how many pictures there are, and how many of them look like another."""
        sizes = np.bincount(self.group, minlength=len(self.group))
        return {
            "pictures": len(self.group),
            "groups": int((sizes > 1).sum()),
            "look_alikes": int((sizes[sizes > 1] - 1).sum()),
        }


def tidy(workspace: Workspace) -> None:
    """Remove the work before the plan of all but the last few curations that nobody is at."""
    folder = workspace.root / "curation"
    found = [path for path in folder.glob("*") if len(path.name) == KEY_DIGITS]
    for path in sorted(found, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        with contextlib.suppress(BlockingIOError), workspace.lock(lock_name(path), wait=False):
            remove(path)


def lock_name(folder: Path) -> str:
    """Return the name of the lock on the folder of a curation."""
    return f"curation-{folder.name}"


def source_rank(rows: Rows, recipe: CurateRecipe) -> np.ndarray:
    """Return the place of every source in the order in which duplicates are kept."""
    order = sorted(
        range(len(rows.sources)),
        key=lambda code: (preference(rows.sources[code], recipe.dedup.prefer_sources), code),
    )
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _paths(names: Sequence[str]) -> list[Path]:
    return [Path(name).expanduser().absolute() for name in names]

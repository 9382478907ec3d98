"""Pictures of a workspace: found, grouped with their copies, kept apart from their likes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from cambrian_data.curation.duplicates.look_alikes import (
    Pictures,
    group_table,
    groups,
    hex_words,
    load_pictures,
    refs_of,
)
from cambrian_data.curation.duplicates.picture_dedup import removed
from cambrian_data.curation.duplicates.same_picture import StoredPictures
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.pictures import keep_picture
from cambrian_data.records import table_of
from cambrian_data.workspace import Workspace

CONFIG = ImagesConfig(min_side_px=1, max_aspect=200)
CORPUS = Path(__file__).parents[3] / "cambrian_data" / "engine" / "corpus" / "images"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def store(workspace: Workspace, pictures: dict[str, bytes], part: str = "test") -> dict[str, Any]:
    """Store pictures; return their rows of `images` by name."""
    rows = {name: keep_picture(workspace, data, CONFIG)[0] for name, data in pictures.items()}
    path = workspace.images / f"part-{part}.parquet"
    workspace.write_table(path, table_of("images", list(rows.values())))
    return rows


def photo(name: str = "insolation_map.jpg") -> Image.Image:
    return Image.open(CORPUS / name).convert("RGB")


def line_of_text(seed: int) -> Image.Image:
    """Return a line of made-up words; the hashes of all of them are alike."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghiklmnoprstuvw"), 6)) for _ in range(6)]
    image = Image.new("RGB", (400, 100), "white")
    ImageDraw.Draw(image).text((20, 40), " ".join(words), fill="black", font_size=18)
    return image


def standing(pictures: Pictures, group: np.ndarray) -> dict[str, str]:
    """Return the hash of each picture that counts as another, and that one's."""
    places = np.flatnonzero(group != np.arange(len(group)))
    return dict(zip(pictures.names(places), pictures.names(group[places]), strict=True))


def test_copies_in_other_formats_and_sizes_join_the_largest(workspace):
    original = photo()
    half = original.resize((original.width // 2, original.height // 2))
    rows = store(
        workspace,
        {
            "original": encoded(original),
            "jpeg": encoded(original, "JPEG", quality=60),
            "webp": encoded(original, "WEBP", quality=80),
            "half": encoded(half, "JPEG", quality=85),
            "mirrored": encoded(original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
            "other": encoded(photo("airy_disk.jpg")),
        },
    )
    pictures = load_pictures(workspace)
    group = groups(pictures, 4, confirm=StoredPictures(workspace, pictures))
    full = [rows[name]["sha256"] for name in ("original", "jpeg", "webp")]
    best = min(full)  # equal in pixels: the smallest hash
    expected = {sha: best for sha in (*full, rows["half"]["sha256"]) if sha != best}
    assert standing(pictures, group) == expected
    table = group_table(pictures, group, None).to_pylist()
    assert [row["kept"] for row in table] == [True, False, False, False]
    assert {row["cluster"] for row in table} == {best}
    assert table[0]["similarity"] == 1.0 and min(row["similarity"] for row in table) >= 60 / 64


def test_drawings_of_one_kind_are_not_taken_for_copies(workspace):
    """Their hashes are near; opened, they differ. A copy among them is still found."""
    lines = {f"{number}": encoded(line_of_text(number)) for number in range(40)}
    copy = encoded(line_of_text(7), "JPEG", quality=85)
    rows = store(workspace, {**lines, "copy": copy})
    pictures = load_pictures(workspace)
    assert len(standing(pictures, groups(pictures, 4))) >= 15
    confirmed = groups(pictures, 4, confirm=StoredPictures(workspace, pictures))
    pair = {rows["copy"]["sha256"], rows["7"]["sha256"]}
    assert standing(pictures, confirmed) == {max(pair): min(pair)}


def test_a_group_that_is_too_large_is_taken_apart(workspace):
    store(workspace, {f"{number}": encoded(line_of_text(number)) for number in range(30)})
    pictures = load_pictures(workspace)
    assert np.bincount(groups(pictures, 6)).max() > 4
    assert np.bincount(groups(pictures, 6, max_group=4)).max() <= 4


def test_plain_pictures_are_compared_by_content_only(workspace):
    blank = {
        f"{shade}": encoded(Image.new("RGB", (80, 60), (shade,) * 3)) for shade in range(0, 250, 25)
    }
    ramp = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))
    store(workspace, {**blank, "ramp": encoded(Image.fromarray(ramp))})
    pictures = load_pictures(workspace)
    assert not pictures.has_phash.any()
    assert standing(pictures, groups(pictures, 8)) == {}


def test_a_lost_file_confirms_nothing(workspace):
    rows = store(workspace, {"a": encoded(photo()), "b": encoded(photo(), "JPEG", quality=70)})
    pictures = load_pictures(workspace)
    (workspace.root / rows["b"]["path"]).unlink()
    assert (
        standing(pictures, groups(pictures, 4, confirm=StoredPictures(workspace, pictures))) == {}
    )


def test_pictures_are_loaded_once_and_found_again(workspace):
    rows = store(workspace, {"a": encoded(photo()), "b": encoded(line_of_text(1))})
    store(workspace, {"a": encoded(photo())}, part="again")
    unknown = {**rows["a"], "sha256": "0" * 64, "phash": None}
    workspace.write_table(workspace.images / "part-third.parquet", table_of("images", [unknown]))
    pictures = load_pictures(workspace)
    assert pictures.names(np.arange(3)) == sorted(["0" * 64, *(r["sha256"] for r in rows.values())])
    assert pictures.has_phash.tolist() == [False, True, True]
    keys = hex_words(pa.array([rows["b"]["sha256"], "f" * 64, rows["a"]["sha256"]]), 64)
    found = pictures.find(keys[:, :2])
    assert found[1] == -1
    assert pictures.names(found[[0, 2]]) == [rows["b"]["sha256"], rows["a"]["sha256"]]
    named = pictures.named(keys[:1, 0])
    assert named.names(np.arange(len(named))) == [rows["b"]["sha256"]]
    assert load_pictures(Workspace(workspace.root / "none")).find(keys[:, :2]).tolist() == [-1] * 3


def test_refs_are_hashes_or_paths(samples: Callable[..., pa.Table], sample):
    read = {"sha256": "ab" * 32, "path": "images/ab/x.jpg", "width": 2, "height": 2}
    table = samples(
        sample("a", "b"),
        sample("a", "b", pictures=["coco/1.jpg", "coco/2.jpg"]),
        sample("a", "b", images=[read]),
        sample("a", "b", pictures=["coco/1.jpg", "caf\u00e9 1.jpg", "cafe  1.jpg", "cafe 1.jpg"]),
    )
    batch = table.combine_chunks().to_batches()[0]
    refs = refs_of(batch)
    assert refs.lengths.tolist() == [0, 2, 1, 4]
    assert refs.row.tolist() == [1, 1, 2, 3, 3, 3, 3]
    assert refs.is_read.tolist() == [False, False, True, False, False, False, False]
    assert refs.keys[2].tolist() == [0xABABABABABABABAB] * 2
    assert refs.keys[0].tolist() == refs.keys[3].tolist()
    assert len(np.unique(refs.keys, axis=0)) == 6
    assert np.array_equal(refs_of(batch.slice(2)).keys, refs.keys[2:])


def test_a_hash_with_other_signs_is_named():
    with pytest.raises(ValueError, match="'00zz' is no hash of 4"):
        hex_words(pa.array(["0000", "00zz"]), 4)
    with pytest.raises(ValueError, match="'00' is no hash"):
        hex_words(pa.array(["0000", "00"]), 4)


def of_sizes(*sizes: int) -> Pictures:
    """Return square pictures of these sides, named 0, 1 ..."""
    count = len(sizes)
    sha256 = np.zeros((count, 4), np.uint64)
    sha256[:, 3] = np.arange(count)
    side = np.array(sizes, np.int32)
    return Pictures(sha256, np.zeros(count, np.uint64), np.ones(count, bool), side, side)


def test_of_a_group_the_samples_of_one_picture_and_source_stay():
    pictures = of_sizes(10, 20, 30)
    row = np.array([0, 1, 2, 3, 4, 4, 5])
    picture = np.array([0, 0, 1, 2, 1, 2, -1])
    source = np.array([0, 0, 1, 0, 1, 1, 0])
    lost = removed(
        row,
        picture,
        source,
        group=np.array([0, 0, 2]),
        source_rank=np.zeros(2, int),
        pictures=pictures,
        num_rows=6,
    )
    # 0 of source 0 and 1 of source 1 have two samples each: the larger picture stays. Picture 2 is
    # in two sources with one sample each: the first source keeps it, row 4 has picture 1 as well.
    assert lost.rows.tolist() == [0, 1]
    assert (
        lost.details(pictures, ["a.json", "b.json"]).to_pylist()
        == [f"looks like {1:064x} of b.json"] * 2
    )
    preferred = removed(
        row,
        picture,
        source,
        group=np.array([0, 0, 2]),
        source_rank=np.array([0, 1]),
        pictures=pictures,
        num_rows=6,
    )
    assert preferred.rows.tolist() == [2, 4]
    assert preferred.source.tolist() == [0, 0]


def test_removal_leaves_every_group_a_sample():
    rng = np.random.default_rng(3)
    pictures = of_sizes(*rng.integers(1, 99, 40).tolist())
    group = np.arange(40)
    group[20:] = rng.integers(0, 20, 20)
    picture, source = rng.integers(-1, 40, 500), rng.integers(0, 5, 500)
    row = np.arange(500)
    lost = removed(
        row,
        picture,
        source,
        group=group,
        source_rank=rng.integers(0, 2, 5),
        pictures=pictures,
        num_rows=500,
    )
    stays = ~np.isin(row, lost.rows)
    assert stays[picture < 0].all()
    for number in np.unique(group[picture[picture >= 0]]):
        mine = (picture >= 0) & (group[picture] == number)
        left = {(p, s) for p, s in zip(picture[mine & stays], source[mine & stays], strict=True)}
        assert len(left) == 1
    nothing = np.empty(0, np.int64)
    none = removed(
        nothing,
        nothing,
        nothing,
        group=group,
        source_rank=np.zeros(1, int),
        pictures=pictures,
        num_rows=0,
    )
    assert len(none.rows) == 0

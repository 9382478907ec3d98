"""Samples that stand in another set: by text, by picture; and sources that must survive it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cambrian_data.curation.duplicates.look_alikes import load_pictures
from cambrian_data.curation.overlaps.against_set import AgainstConfig, AgainstSet
from cambrian_data.curation.overlaps.overlap import Matches, match, picture_hits
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.pictures import keep_picture
from cambrian_data.records import MATCH, UserError, table_of
from cambrian_data.workspace import Workspace

CONFIG = AgainstConfig()
CORPUS = Path(__file__).parents[3] / "cambrian_data" / "engine" / "corpus" / "images"
HINT = "Answer the question using a single word or phrase."
LONG = (
    "A farmer keeps chickens and rabbits in one yard. Altogether the animals have thirty five "
    "heads and ninety four feet. How many chickens and how many rabbits are there in the yard?"
)
RUN = "the quick brown fox jumps over the lazy dog while seven tall wizards watch from the hill"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def benchmark(folder: Path, *rows: Any, name: str = "bench.jsonl") -> str:
    path = folder / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def built(
    workspace: Workspace, path: str, config: AgainstConfig = CONFIG, images: Path | None = None
) -> AgainstSet:
    folder = workspace.root / "against"
    return AgainstSet.build(workspace, path, config, folder=folder, images=images)


def matches_of(
    workspace: Workspace, against: AgainstSet, table: pa.Table, config: AgainstConfig = CONFIG
) -> tuple[Matches, pa.RecordBatch]:
    pictures = load_pictures(workspace)
    batch = table.combine_chunks().to_batches()[0]
    hits = picture_hits(against, pictures, config, workspace)
    return match(batch, against, hits, pictures, config), batch


def matched(
    workspace: Workspace, against: AgainstSet, table: pa.Table, config: AgainstConfig = CONFIG
) -> list[int]:
    return matches_of(workspace, against, table, config)[0].row.tolist()


# ------------------------------------------------------------------------------------ text


def test_a_long_question_is_found_whatever_surrounds_it(workspace, tmp_path, samples, sample):
    path = benchmark(tmp_path, {"id": "q7", "question": LONG, "answer": "23 and 12"})
    against = built(workspace, path)
    table = samples(
        sample(LONG.upper().replace(".", " !"), "There are 23 chickens."),
        sample(f"Solve this step by step, and explain. {LONG} Say why.", "Let us see. " * 30),
        sample(LONG.replace("chickens", "ducks").replace("thirty", "forty"), "No."),
        sample("How many rabbits are there?", "12"),
    )
    found, batch = matches_of(workspace, against, table)
    assert found.row.tolist() == [0, 1]
    assert found.table(batch, against).to_pylist() == [
        {
            "sample_id": table["id"][row].as_py(),
            "against": path,
            "kind": "text",
            "score": 1.0,
            "matched_id": "q7",
        }
        for row in (0, 1)
    ]
    assert found.table(batch, against).schema == MATCH
    reasons, details = found.drops(4, against)
    assert reasons.tolist() == ["text_match", "text_match", "", ""]
    assert details.tolist() == [f"matches q7 of {path} (1.00)"] * 2 + [None] * 2


def test_common_questions_about_pictures_do_not_wipe_out_a_source(
    workspace, tmp_path, samples, sample
):
    """The benchmark asks what everyone asks; its pictures are others."""
    questions = [
        "What is in the image?",
        f"What is the colour of the large car in the picture?\n{HINT}",
        "Is there a dog in the picture?",
        f"Is there a dog in the picture?\n{HINT}",
        "Please describe in detail what can be seen in this image.",
    ]
    path = benchmark(
        tmp_path,
        *(
            {"question": q, "answer": "yes", "image": f"bench/{n}.jpg"}
            for n, q in enumerate(questions)
        ),
        *({"question": q, "answer": "yes"} for q in questions),
    )
    against = built(workspace, path)
    rows = [
        sample(f"<image>\n{question}", answer, pictures=[f"coco/{number}.jpg"])
        for number in range(40)
        for question in questions
        for answer in ("yes", "Yes, it is a large brown dog that sits in front of the house.")
    ]
    assert matched(workspace, against, samples(*rows)) == []


def test_an_answer_about_a_picture_is_compared(workspace, tmp_path, samples, sample):
    """As where the rows of an alignment set stand again in another."""
    path = benchmark(
        tmp_path,
        {
            "id": 5,
            "image": "a/1.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nDescribe it."},
                {"from": "gpt", "value": RUN},
            ],
        },
    )
    against = built(workspace, path)
    table = samples(
        sample("<image>\nWrite a caption.", RUN, pictures=["other/9.jpg"]),
        sample(f"<image>\n{RUN}", "yes", pictures=["other/8.jpg"]),  # a short question
        sample(f"<image>\n{LONG} {RUN}", "yes", pictures=["other/8.jpg"]),  # a long one
        sample("Tell me.", RUN),
    )
    assert matched(workspace, against, table) == [0, 2, 3]
    assert against.row_name(0) == "5"


def test_short_texts_count_as_a_whole_without_pictures(workspace, tmp_path, samples, sample):
    path = benchmark(
        tmp_path,
        {"question": "Which river flows through the old town of Bern?", "answer": "Aare"},
        {"question": "Who wrote Faust?", "answer": "Goethe"},
    )
    against = built(workspace, path)
    table = samples(
        sample("which river flows through the old town of Bern", "The Aare."),
        sample("Say: which river flows through the old town of Bern?", "The Aare."),
        sample("Who wrote Faust?", "Goethe"),
    )
    assert matched(workspace, against, table) == [0]
    assert against.about["rows_without_text"] == 1


def test_templates_of_the_set_do_not_decide(workspace, tmp_path, samples, sample):
    template = "You are given a multiple choice question. Think well, then answer with one letter:"
    rows = [{"question": f"{template} {n} plus {n + 1} is {2 * n + 1}?"} for n in range(40)]
    against = built(workspace, benchmark(tmp_path, *rows))
    own = samples(sample(f"{template} who was the first king of Sweden?", "A"))
    assert matched(workspace, against, own) == []
    # What stands often only since the set repeats itself is no template.
    repeated = benchmark(tmp_path, *[{"question": LONG}] * 40, name="repeated.jsonl")
    against = built(workspace, repeated)
    assert matched(workspace, against, samples(sample(LONG, "A"))) == [0]
    assert against.about["rows_alike"] == 39


def test_a_passage_in_a_long_sample_and_a_long_row_are_found(workspace, tmp_path, samples, sample):
    """A row of 3,000 words is sampled; what is shared is estimated."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghij"), 7)) for _ in range(4_000)]
    long_row = " ".join(words[:3_000])
    against = built(workspace, benchmark(tmp_path, {"text": long_row}))
    assert len(against.grams) <= 80
    table = samples(
        sample("Go on.", " ".join(words[:3_000])),
        sample("Go on.", " ".join(words[1_000:4_000])),
        sample("Go on.", " ".join(words[2_800:])),
    )
    found, _ = matches_of(workspace, against, table, AgainstConfig(min_share=0.45))
    assert found.row.tolist() == [0, 1]
    assert found.score[0] == 1.0 and abs(found.score[1] - 2 / 3) < 0.2


# -------------------------------------------------------------------------------- pictures


def store(workspace: Workspace, *names: str) -> list[dict[str, Any]]:
    """Store pictures of the corpus; return them as samples name them."""
    config = ImagesConfig(min_side_px=1, max_aspect=200)
    rows = [keep_picture(workspace, (CORPUS / name).read_bytes(), config)[0] for name in names]
    path = workspace.images / "part-test.parquet"
    workspace.write_table(path, table_of("images", rows))
    return [{name: row[name] for name in ("sha256", "path", "width", "height")} for row in rows]


def jpeg(name: str, scale: float = 1.0) -> bytes:
    image = Image.open(CORPUS / name).convert("RGB")
    image = image.resize((int(image.width * scale), int(image.height * scale)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def test_a_picture_of_the_benchmark_is_found_whatever_is_said(workspace, tmp_path, samples, sample):
    seen = store(workspace, "insolation_map.jpg", "airy_disk.jpg", "day_length.png")
    images = tmp_path / "images"
    images.mkdir()
    (images / "same.jpg").write_bytes((CORPUS / "insolation_map.jpg").read_bytes())
    (images / "small.jpg").write_bytes(jpeg("airy_disk.jpg", 0.5))
    (images / "broken.jpg").write_bytes(b"no picture")
    names = ["same.jpg", "small.jpg", "broken.jpg", "lost.jpg", "../../secret.jpg"]
    rows = [{"question": "What is it?", "image": name} for name in names]
    against = built(workspace, benchmark(tmp_path, *rows), images=images)
    assert against.about["skipped"] == {"image_missing": 2, "image_unreadable": 1}
    table = samples(*(sample("<image>\nWhere?", "Here.", images=[image]) for image in seen))
    found, batch = matches_of(workspace, against, table)
    assert found.row.tolist() == [0, 1]
    assert found.is_picture.all()
    assert found.score[0] == 1.0 and 60 / 64 <= found.score[1] <= 1
    names = found.table(batch, against)["matched_id"].to_pylist()
    assert names == ["bench.jsonl:0", "bench.jsonl:1"]
    assert found.drops(3, against)[0].tolist() == ["picture_match", "picture_match", ""]
    exact = AgainstConfig(picture_radius=0, pictures=False)
    assert matched(workspace, against, table, exact) == []


def test_unread_pictures_are_compared_by_their_paths(workspace, tmp_path, samples, sample):
    path = benchmark(tmp_path, {"id": "a", "image": "./coco//val/1.jpg", "question": "What?"})
    table = samples(
        sample("<image>\nA cat?", "No.", pictures=["coco/val/1.jpg"]),
        sample("<image>\nA cat?", "No.", pictures=["coco/val/2.jpg"]),
    )
    assert matched(workspace, built(workspace, path), table) == [0]


def test_pictures_inside_of_a_parquet_file(workspace, tmp_path, samples, sample):
    (seen,) = store(workspace, "airy_disk.jpg")
    rows = [{"question": "What?", "image": {"bytes": jpeg("airy_disk.jpg"), "path": "1.jpg"}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bench.parquet")
    against = built(workspace, str(tmp_path / "bench.parquet"))
    table = samples(sample("<image>\nWhere?", "Here.", images=[seen]))
    assert matched(workspace, against, table) == [0]


def test_only_some_parts_of_a_file_hold_pictures(workspace, tmp_path, samples, sample):
    """Rows are taken 5,000 at a time: the first part has paths alone."""
    (seen,) = store(workspace, "airy_disk.jpg")
    picture = {"bytes": jpeg("airy_disk.jpg"), "path": "1.jpg"}
    rows = [{"question": "What?", "image": None}] * 5_100 + [
        {"question": "What?", "image": picture}
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bench.parquet")
    against = built(workspace, str(tmp_path / "bench.parquet"))
    table = samples(sample("<image>\nWhere?", "Here.", images=[seen]))
    found, batch = matches_of(workspace, against, table)
    assert found.table(batch, against)["matched_id"].to_pylist() == ["bench.parquet:5100"]


def test_a_common_kind_of_drawing_matches_by_content_only(workspace, tmp_path, samples, sample):
    """With more look-alikes than `max_group` in the pool, a picture of the set is no evidence."""
    (seen,) = store(workspace, "airy_disk.jpg")
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.jpg").write_bytes(jpeg("airy_disk.jpg"))
    against = built(workspace, benchmark(tmp_path, {"image": "1.jpg"}), images=images)
    copies = []
    for quality in range(40, 95, 5):
        buffer = io.BytesIO()
        Image.open(CORPUS / "airy_disk.jpg").save(buffer, "JPEG", quality=quality)
        copies.append(keep_picture(workspace, buffer.getvalue(), ImagesConfig())[0])
    workspace.write_table(workspace.images / "part-more.parquet", table_of("images", copies))
    table = samples(sample("<image>\nWhere?", "Here.", images=[seen]))
    assert matched(workspace, against, table) == [0]
    assert matched(workspace, against, table, AgainstConfig(max_group=5)) == []


def test_both_kinds_are_told_and_the_picture_is_the_reason(workspace, tmp_path, samples, sample):
    path = benchmark(tmp_path, {"image": "x/1.jpg", "question": LONG})
    against = built(workspace, path)
    table = samples(sample(f"<image>\n{LONG}", "23", pictures=["x/1.jpg"]))
    found, batch = matches_of(workspace, against, table)
    assert found.table(batch, against)["kind"].to_pylist() == ["text", "picture"]
    assert found.drops(1, against)[0].tolist() == ["picture_match"]


# -------------------------------------------------------------------------------- the sets


def pool_set(workspace: Workspace, name: str, table: pa.Table, area: str = "pool") -> None:
    workspace.write_table(workspace.root / area / name / "samples" / "part-0.parquet", table)


def test_a_set_of_the_pool_and_a_mixture(
    workspace, samples: Callable[..., pa.Table], sample: Callable[..., dict[str, Any]]
):
    (seen,) = store(workspace, "airy_disk.jpg")
    one, two = samples(sample(LONG, "23")), samples(sample("<image>\nA?", "B", images=[seen]))
    pool_set(workspace, "stage1", one)
    pool_set(workspace, "stage1", two, area="mixtures")
    table = samples(sample("And now. " + LONG, "23"), sample("<image>\nWho?", "I.", images=[seen]))
    first = built(workspace, "stage1")
    found, batch = matches_of(workspace, first, table)
    assert found.row.tolist() == [0]
    assert found.table(batch, first)["matched_id"].to_pylist() == one["id"].to_pylist()
    mixture = built(workspace, "mixture:stage1")
    found, batch = matches_of(workspace, mixture, table)
    assert (found.row.tolist(), found.score.tolist()) == ([1], [1.0])
    assert found.table(batch, mixture)["matched_id"].to_pylist() == two["id"].to_pylist()


def test_a_set_is_made_once_and_its_bytes_are_the_same(workspace, tmp_path):
    path = benchmark(tmp_path, {"question": LONG}, "{broken", {"question": RUN}, "[1]")
    first = built(workspace, path)
    assert first.about["skipped"] == {"bad_json": 1, "not_an_object": 1}
    assert first.num_rows == 2
    content = {p.name: p.read_bytes() for p in first.folder.iterdir()}
    stamp = (first.folder / "about.json").stat().st_mtime_ns
    assert built(workspace, path).content_key == first.content_key
    assert (first.folder / "about.json").stat().st_mtime_ns == stamp
    other = AgainstSet.build(workspace, path, CONFIG, folder=tmp_path / "elsewhere")
    assert {p.name: p.read_bytes() for p in other.folder.iterdir()} == content
    assert built(workspace, path, AgainstConfig(ngram_words=8)).content_key != first.content_key
    assert built(workspace, path, AgainstConfig(min_share=0.7)).content_key == first.content_key
    benchmark(tmp_path, {"question": RUN})
    assert built(workspace, path).content_key != first.content_key


def test_order_and_batches_make_no_difference(workspace, tmp_path, samples, sample):
    path = benchmark(tmp_path, {"id": "a", "question": LONG}, {"id": "b", "question": LONG + " x"})
    against = built(workspace, path)
    rows = [sample(f"{n} {LONG if n % 3 else RUN}", "yes") for n in range(30)]
    table = samples(*rows)
    found, batch = matches_of(workspace, against, table)
    whole = found.table(batch, against).to_pylist()
    parts = []
    for start in range(0, 30, 7):
        part, batch = matches_of(workspace, against, table.slice(start, 7))
        parts += part.table(batch, against).to_pylist()
    assert parts == whole and len(whole) == 20


def test_mistakes_are_named(workspace, tmp_path):
    with pytest.raises(UserError, match="'nothing' is neither a data set of the pool"):
        built(workspace, "nothing")
    with pytest.raises(UserError, match=r"1 row\(s\), none of them readable \(bad_json 1\)"):
        built(workspace, benchmark(tmp_path, "{broken"))
    with pytest.raises(UserError, match="holds no rows: give another file"):
        built(workspace, benchmark(tmp_path))
    with pytest.raises(UserError, match="'/dev/zero' is no ordinary file"):
        built(workspace, "/dev/zero")
    with pytest.raises(UserError, match="there is no folder"):
        built(workspace, benchmark(tmp_path, {"a": "b"}), images=tmp_path / "none")

"""Plain rows: what is taken without a detour is what `parse_row` says of it, or is refused."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.ingest.lines import RawLine
from cambrian_data.curation.ingest.plain_columns import PlainColumns
from cambrian_data.curation.ingest.plain_rows import read_plain
from cambrian_data.curation.ingest.plain_strings import Block
from cambrian_data.curation.ingest.rows import ParsedSample, parse_row
from cambrian_data.records import sample_id

SAID = [
    "a",
    "\n",
    "\\",
    '"',
    " ",
    "\t",
    "<",
    "<image>",
    "\u00e9",
    "\x7f",
    "\u2028",
    "\\n",
    "/",
    "{",
]
TEXTS = st.lists(st.sampled_from(SAID), max_size=6).map("".join)
GOOD_PATHS = ["a.jpg", "coco/1.jpg", "hfdata/x/1.jpg", "hfdata/1.jpg", "a b/c.jpg", "\u00e9/a"]
ODD_PATHS = ["x/", "a/./b", "../a", "/a", "a//b", "C:/a", "a\\b", "", "None", "null", "a..b/..c"]
PATHS = st.sampled_from(GOOD_PATHS) | st.sampled_from(ODD_PATHS)
SOURCES = st.sampled_from(["s.json", "", " ", "s.json:a", "\u00e9", 'a"b'])
IDS = st.text(max_size=4) | st.integers(-(10**19), 10**19) | st.sampled_from([None, 0.5, -0.0])

NEW = [b"", b'"', b"\\", b"{", b"}", b"]", b", ", b"\xff", b"\r", b"0"]


@st.composite
def rows(draw) -> dict:
    """Draw a row that is nearly plain, its keys in any order."""
    has_image = draw(st.booleans())
    turns = []
    for number in range(draw(st.sampled_from([2, 2, 2, 4, 1, 3]))):
        text = draw(TEXTS)
        if has_image and not number and draw(st.integers(0, 9)):
            text = f"<image>\n{text.replace('<image>', '')}"
        turns.append({"from": ("human", "gpt")[number % 2], "value": text})
    found = {"conversations": turns}
    found |= {"id": draw(IDS)} if draw(st.booleans()) else {}
    found |= {"source": draw(SOURCES)} if draw(st.booleans()) else {}
    found |= {"image": draw(PATHS)} if has_image else {}
    return {key: found[key] for key in draw(st.permutations(sorted(found)))}


@st.composite
def lines(draw) -> bytes:
    """Draw a line as it is written, sometimes with a part of it lost, doubled or replaced."""
    separators = draw(st.sampled_from([None, (",", ":"), (", ", ":"), (" , ", " : ")]))
    text = json.dumps(draw(rows()), ensure_ascii=draw(st.booleans()), separators=separators)
    data = text.encode("utf-8", "replace")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        begin = draw(st.integers(0, len(data)))
        end = begin + draw(st.integers(0, 12))
        new = draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"]", b", ", b"\xff", b"\r", b"0"])
        )
        data = data[:begin] + draw(st.sampled_from([new, data[begin:end] * 2])) + data[end:]
    return data.replace(b"\n", b"")


@settings(max_examples=400, deadline=None)
@given(given=st.lists(lines(), min_size=1, max_size=12), ends=st.booleans())
def test_plain_rows_are_what_parse_row_says(given: list[bytes], ends: bool) -> None:
    data = b"\n".join(given) + (b"\n" if ends or not given[-1] else b"")
    block = Block(data)
    assert [block.line(number) for number in range(len(block))] == given
    plain = read_plain(block)
    if plain is None:
        return
    columns = PlainColumns("f.jsonl")
    columns.add(plain, 0)
    sources = columns.count_sources()
    found = columns.table(dataset="d", category_of=dict.fromkeys(sources, "other"))
    found.validate(full=True)
    num_numbers = 0
    for row in found.to_pylist():
        line = row["origin"]["line"]
        sample = parse_row(RawLine(line, 0, 0, given[line]), "f.jsonl")
        assert isinstance(sample, ParsedSample), (given[line], sample)
        assert sample.mended <= {"number_id"}
        num_numbers += len(sample.mended)
        assert [(turn["from"], turn["value"]) for turn in row["conversations"]] == sample.turns
        assert [image["path"] for image in row["images"]] == sample.images
        assert (row["source"], row["origin"]["id"]) == (sample.source, sample.row_id)
        assert row["id"] == sample_id(row["conversations"], row["images"])
    assert plain.num_number_ids == num_numbers
    assert sum(sources.values()) == len(found)


def test_rows_of_published_sets_are_plain() -> None:
    turns = [{"from": "human", "value": '<image>\n"A"?'}, {"from": "gpt", "value": "A\\B \u00e9"}]
    layouts = [
        {"id": "a", "image": "coco/1.jpg", "conversations": turns},
        {"id": 7, "image": "coco/1.jpg", "conversations": turns, "source": "s.json"},
        {"conversations": turns, "image": "1.jpg", "id": "b"},
        {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]},
    ]
    for separators in (None, (",", ":")):
        text = "\n".join(
            json.dumps(row, separators=separators, ensure_ascii=False) for row in layouts
        )
        plain = read_plain(Block(text.encode()))
        assert plain is not None
        assert plain.lines.tolist() == [0, 1, 2, 3]
        assert plain.row_ids.to_pylist() == ["a", "7", "b", None]
        assert plain.texts.to_pylist()[:2] == [turn["value"] for turn in turns]

"""One row of an instruction set: what is mended, what is dropped and why."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from cambrian_data.curation.ingest import rows
from cambrian_data.curation.ingest.formats import FORMAT_MENDS
from cambrian_data.curation.ingest.lines import RawLine
from cambrian_data.curation.ingest.path_rules import PATH_MENDS
from cambrian_data.curation.ingest.rows import MENDS, ParsedSample, parse_row, source_of
from cambrian_data.curation.ingest.shapes import CAPTION_QUESTION
from cambrian_data.records import DROP_REASONS

ASKED = {"from": "human", "value": "<image>\nWhat is it?"}
TEXT = {"from": "human", "value": "What is it?"}
SAID = {"from": "gpt", "value": "A cat."}
PAIR = [("human", "What is it?"), ("gpt", "A cat.")]
SHOWN = [("human", "<image>\nWhat is it?"), ("gpt", "A cat.")]


def parse(row: Any) -> ParsedSample | dict[str, Any]:
    data = row if isinstance(row, bytes) else json.dumps(row).encode()
    return parse_row(RawLine(7, 100, 100 + len(data), data), "file.jsonl")


def test_ordinary_row_is_taken_as_it_is():
    row = {"id": "x1", "source": "s.json", "image": "coco/1.jpg", "conversations": [ASKED, SAID]}
    sample = parse(row)
    assert sample.turns == SHOWN
    assert (sample.row_id, sample.source, sample.images) == ("x1", "s.json:coco", ["coco/1.jpg"])
    assert sample.mended == set()


MENDED = [
    ("number_id", {"id": 5, "conversations": [TEXT, SAID]}, PAIR, []),
    ("no_picture_marker", {"image": "", "conversations": [TEXT, SAID]}, PAIR, []),
    ("no_picture_marker", {"image": "None", "conversations": [TEXT, SAID]}, PAIR, []),
    ("no_picture_marker", {"image": None, "conversations": [TEXT, SAID]}, PAIR, []),
    ("image_list", {"image": ["a.jpg"], "conversations": [ASKED, SAID]}, SHOWN, ["a.jpg"]),
    ("image_token_added", {"image": "a.jpg", "conversations": [TEXT, SAID]}, SHOWN, ["a.jpg"]),
    (
        "image_tokens_collapsed",
        {
            "image": "a.jpg",
            "conversations": [{"from": "human", "value": "<image>\n<image>\nWhat is it?"}, SAID],
        },
        SHOWN,
        ["a.jpg"],
    ),
    ("images_key", {"images": "a.jpg", "conversations": [ASKED, SAID]}, SHOWN, ["a.jpg"]),
    (
        "path_normalised",
        {"image": "./a//b/../1.jpg", "conversations": [ASKED, SAID]},
        SHOWN,
        ["a/1.jpg"],
    ),
    ("leading_answer", {"conversations": [SAID, TEXT, SAID]}, PAIR, []),
    (
        "messages_key",
        {
            "messages": [
                {"role": "human", "content": "What is it?"},
                {"role": "gpt", "content": "A cat."},
            ]
        },
        PAIR,
        [],
    ),
    (
        "role_names",
        {
            "conversations": [
                {"from": "user", "value": "What is it?"},
                {"from": "Assistant", "value": "A cat."},
            ]
        },
        PAIR,
        [],
    ),
    (
        "content_parts",
        {
            "image": "a.jpg",
            "conversations": [
                {
                    "from": "human",
                    "value": [
                        {"type": "image"},
                        {"type": "text", "text": "\nWhat is"},
                        {"type": "text", "value": " it?"},
                    ],
                },
                SAID,
            ],
        },
        SHOWN,
        ["a.jpg"],
    ),
    (
        "not_strict_json",
        b'{"score": NaN, "conversations": ' + orjson.dumps([TEXT, SAID]) + b"}",
        PAIR,
        [],
    ),
    (
        "byte_order_mark",
        b"\xef\xbb\xbf" + orjson.dumps({"conversations": [TEXT, SAID]}),
        PAIR,
        [],
    ),
    ("question_answer", {"question": "What is it?", "answer": "A cat."}, PAIR, []),
    ("texts_key", {"texts": [{"user": "What is it?", "assistant": "A cat."}]}, PAIR, []),
    (
        "caption_question",
        {"image": "a.jpg", "caption": "A cat."},
        [("human", f"<image>\n{CAPTION_QUESTION}"), ("gpt", "A cat.")],
        ["a.jpg"],
    ),
    ("system_key", {"system": "Be brief.", "conversations": [TEXT, SAID]}, PAIR, []),
    (
        "system_turn",
        {"conversations": [{"from": "system", "value": "Be brief."}, TEXT, SAID]},
        PAIR,
        [],
    ),
]


@pytest.mark.parametrize(("mend", "row", "turns", "images"), MENDED)
def test_mend(mend, row, turns, images):
    sample = parse(row)
    assert sample.mended == {mend}
    assert (sample.turns, sample.images) == (turns, images)
    if mend.startswith("system"):
        assert sample.system == "Be brief."
    if mend == "number_id":
        assert sample.row_id == "5"


def test_every_mend_is_tried():
    elsewhere = set(FORMAT_MENDS) | set(PATH_MENDS)
    assert {mend for mend, *_ in MENDED} | elsewhere == set(MENDS)


def picture(path: Any) -> dict[str, Any]:
    return {"image": path, "conversations": [ASKED, SAID]}


DROPPED = [
    ("bad_json", b'{"conversations": [{"from"'),
    ("bad_json", b"[" * 100_000),
    ("bad_encoding", b'{"id": "latin1 \xe9"}'),
    ("bad_encoding", rb'{"conversations": [{"from": "human", "value": "\ud800"}]}'),
    ("not_an_object", ["x", "not an object"]),
    ("not_an_object", 5),
    ("no_conversation", {"id": "x"}),
    ("no_conversation", {"conversations": []}),
    ("no_conversation", {"text": "only text"}),
    ("bad_turns", {"conversations": ["Hello"]}),
    ("bad_turns", {"conversations": [TEXT, {"from": "narrator", "value": "x"}]}),
    ("bad_turns", {"conversations": [TEXT, {"from": "gpt", "value": None}]}),
    ("bad_turns", {"conversations": [TEXT, {"from": "gpt", "value": [{"type": "input_file"}]}]}),
    ("bad_turns", {"conversations": [TEXT, TEXT, SAID]}),
    ("bad_turns", {"conversations": [SAID, SAID, TEXT, SAID]}),
    ("bad_turns", {"conversations": [TEXT, {"from": "system", "value": "x"}, SAID]}),
    ("no_answer", {"conversations": [TEXT]}),
    ("no_answer", {"conversations": [SAID, TEXT]}),
    ("no_answer", {"conversations": [TEXT, SAID, TEXT]}),
    ("no_answer", {"conversations": [{"from": "system", "value": "x"}]}),
    ("empty_turn", {"conversations": [TEXT, {"from": "gpt", "value": " \n"}]}),
    ("empty_turn", {"conversations": [{"from": "human", "value": ""}, SAID]}),
    ("image_outside_folder", picture("../../etc/passwd")),
    ("image_outside_folder", picture("a/../../b.jpg")),
    ("image_outside_folder", picture("/etc/passwd")),
    ("image_outside_folder", picture("..\\..\\secret.png")),
    ("image_outside_folder", picture("C:\\secret.png")),
    ("bad_image", picture("https://example.org/a.jpg")),
    ("bad_image", picture({"bytes": "xx"})),
    ("bad_image", picture("a\0b.jpg")),
    ("bad_image", picture("a/..")),
    ("image_token_mismatch", {"conversations": [ASKED, SAID]}),
    ("image_token_mismatch", picture(["a.jpg", "b.jpg"])),
    ("image_token_mismatch", {**picture("a.jpg"), "images": ["b.jpg"]}),
    (
        "image_token_mismatch",
        {
            "image": "a.jpg",
            "conversations": [{"from": "human", "value": "<image> x <image>"}, SAID],
        },
    ),
    (
        "image_token_mismatch",
        {"image": "a.jpg", "conversations": [ASKED, {"from": "gpt", "value": "A cat <image>"}]},
    ),
    ("bad_encoding", '{"conversations": []}'.encode("utf-16")),
    ("bad_encoding", '{"conversations": []}'.encode("utf-16-le")),
    ("video", {"video": "a.mp4", "conversations": [TEXT, SAID]}),
    ("video", {"videos": ["a.mp4"], "messages": []}),
    ("audio", {"audios": ["a.wav"], "messages": []}),
    ("preference", {"conversations": [TEXT], "chosen": SAID, "rejected": SAID}),
    ("tool_call", {"conversations": [TEXT, SAID], "tools": '[{"name": "f"}]'}),
    ("tool_call", {"conversations": [TEXT, {"from": "function_call", "value": "{}"}]}),
]


@pytest.mark.parametrize(("reason", "row"), DROPPED)
def test_drop(reason, row):
    drop = parse(row)
    assert isinstance(drop, dict)
    assert (drop["reason"], drop["stage"], drop["record_id"]) == (reason, "ingest", "file.jsonl:7")
    assert (drop["origin"]["file"], drop["origin"]["line"]) == ("file.jsonl", 7)
    assert drop["raw"] and drop["detail"]


def test_row_too_large_is_dropped_with_a_capped_text(monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 5_000)
    drop = parse(b'{"id": "' + b"x" * 6_000)
    assert drop["reason"] == "too_large"
    assert len(drop["raw"]) == 2_000


def test_every_reason_is_tried():
    elsewhere = {"image_missing", "image_unreadable", "damaged"}
    tried = {reason for reason, _ in DROPPED} | elsewhere | {"too_large"}
    assert tried == DROP_REASONS["ingest"]


def test_no_tools_is_an_ordinary_row():
    assert parse({"conversations": [TEXT, SAID], "tools": "[]"}).turns == PAIR


def test_several_pictures_in_their_places():
    first = {"from": "human", "value": "<image><image> Which is larger?"}
    sample = parse({"image": ["a/1.jpg", "b/2.jpg"], "conversations": [first, SAID]})
    assert sample.images == ["a/1.jpg", "b/2.jpg"]


def test_system_prompts_of_key_and_turn_are_both_kept():
    turns = [{"from": "system", "value": "Two."}, TEXT, SAID]
    assert parse({"system_prompt": "One.", "conversations": turns}).system == "One.\nTwo."


@pytest.mark.parametrize(
    ("value", "images", "source"),
    [
        ("dvqa_2325k.json", ["dvqa/images/1.png"], "dvqa_2325k.json:dvqa"),
        ("idefics375k.json", ["hfdata/iconqa/1.png"], "idefics375k.json:hfdata/iconqa"),
        ("idefics375k.json", ["hfdata/1.png"], "idefics375k.json:hfdata"),
        ("orca_994k.json", [], "orca_994k.json"),
        (None, ["coco/1.jpg"], "file.jsonl:coco"),
        (" ", ["1.jpg"], "file.jsonl"),
        ("s.json:coco", ["images/1.jpg"], "s.json:coco"),
        ("data_engine:fluid dynamics", ["images/1.jpg"], "data_engine:fluid dynamics"),
        ("A set: its name", ["coco/1.jpg"], "A set: its name:coco"),
        ("https://example.org", ["coco/1.jpg"], "https://example.org:coco"),
        ("s.json:", ["coco/1.jpg"], "s.json::coco"),
    ],
)
def test_source_is_file_and_first_folder(value, images, source):
    assert source_of(value, "file.jsonl", images) == source


def test_pictures_of_openai_messages_are_paths_too():
    parts = [
        {"type": "image_url", "image_url": {"url": "coco/1.jpg"}},
        {"type": "text", "text": "What is it?"},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cup."}]
    sample = parse({"messages": turns})
    assert sample.images == ["coco/1.jpg"]
    assert sample.turns[0] == ("human", "<image>What is it?")
    parts[0]["image_url"]["url"] = "data:image/png;base64,AAAA"
    assert parse({"messages": turns})["reason"] == "bad_image"


@pytest.mark.parametrize(
    ("picture", "source"),
    [
        ("AI2D/1.png", "ai2d_15k.json:ai2d"),
        ("ai2d/1.png", "ai2d_15k.json:ai2d"),
        ("Else/1.png", "ai2d_15k.json:Else"),
    ],
)
def test_folders_of_known_sources_are_spelled_as_known(picture, source):
    turns = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
    row = {"source": "ai2d_15k.json", "image": picture, "conversations": turns}
    assert parse(row).source == source

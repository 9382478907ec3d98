from __future__ import annotations

from pathlib import Path

import pytest

from cambrian_data.engine.topics import Wanted, read_wanted, wanted_of_topic
from cambrian_data.engine.topics.loose_json import MAX_DEPTH
from cambrian_data.engine.topics.names import clean_name, clean_names, key_of, split_names
from cambrian_data.records import UserError, table_of

PHYSICS = [
    Wanted("Physics", "Optics", "Refraction"),
    Wanted("Physics", "Optics", "Prism"),
    Wanted("Physics", "Waves", "Standing wave"),
]


def read(folder: Path, text: str | bytes, name: str = "topics.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_wanted(path)


def names(folder: Path, text: str) -> list[str]:
    wanted, _ = read(folder, text)
    assert all(not item.field and not item.subfield for item in wanted)
    return [item.topic for item in wanted]


# ------------------------------------------------------------------------------------ --topic


def test_a_topic_is_a_field_until_somebody_knows_better():
    assert wanted_of_topic('  "quantum   mechanics" ') == [Wanted("quantum mechanics")]
    for wrong in ("  ", "...", "x" * 101):
        with pytest.raises(UserError, match="--topic"):
            wanted_of_topic(wrong)


# ------------------------------------------------------------------------------ published form


def test_the_published_form(tmp_path):
    text = (
        "Geology and Earth Sciences: Petrology, Mineralogy\n"
        "Renewable Energy: Solar Power, Wind Energy"
    )
    wanted, drops = read(tmp_path, text)
    assert wanted == [
        Wanted("Geology and Earth Sciences", "Petrology"),
        Wanted("Geology and Earth Sciences", "Mineralogy"),
        Wanted("Renewable Energy", "Solar Power"),
        Wanted("Renewable Energy", "Wind Energy"),
    ]
    assert drops == []


def test_the_published_form_as_people_write_it(tmp_path):
    text = (
        "\ufeff# fields\n\n"
        "1. **Physics**: optics, mechanics (classical, quantum), and waves.\r\n"
        "2) Chemistry \u2013 titration; salts\n"
        "\u2022 Earth Science:petrology,\n"
        "    mineralogy\n"
        "3. Biology:\n"
        "4. Medicine\n"
        "-----\n"
    )
    wanted, drops = read(tmp_path, text)
    assert [(item.field, item.subfield) for item in wanted] == [
        ("Physics", "optics"),
        ("Physics", "mechanics (classical, quantum)"),
        ("Physics", "waves"),
        ("Chemistry", "titration"),
        ("Chemistry", "salts"),
        ("Earth Science", "petrology"),
        ("Earth Science", "mineralogy"),
        ("Biology", ""),
        ("Medicine", ""),
    ]
    assert drops == []


def test_a_line_that_does_not_fit_is_a_drop_with_its_place(tmp_path):
    wanted, drops = read(tmp_path, "Physics: optics\nfoo, bar\nChemistry: salts\n")
    assert [item.field for item in wanted] == ["Physics", "Chemistry"]
    (row,) = drops
    assert (row["reason"], row["raw"], row["source"]) == ("unreadable", "foo, bar", "topics.txt")
    assert row["origin"] == {"file": "topics.txt", "line": 1, "id": None}
    table_of("drops", drops)


# ------------------------------------------------------------------------------------- a list


def test_a_list_of_topics_may_hold_colons_commas_and_dashes(tmp_path):
    text = (
        "Refraction\nStar Wars: A New Hope\nWashington, D.C.\nWave\u2013particle duality\n10:30\n"
    )
    assert names(tmp_path, text) == text.splitlines()


def test_a_list_loses_its_marks(tmp_path):
    text = '- "Lens"\n* **Prism**\n\u2013 [Mirror](https://x.org/y)\n- [ ] `Laser`,\n# no\n\n'
    assert names(tmp_path, text) == ["Lens", "Prism", "Mirror", "Laser"]
    numbered = "1. Refraction\n2. 2. Weltkrieg\n3) 3D printing\n(4) 1984\n"
    assert names(tmp_path, numbered) == ["Refraction", "2. Weltkrieg", "3D printing", "1984"]
    plain = "2. Weltkrieg\n3D printing\n7 Wonders\n-40 degrees\n"
    assert names(tmp_path, plain) == plain.splitlines()


def test_remarks_and_sentences_in_a_list_are_drops(tmp_path):
    wanted, drops = read(tmp_path, f"Here are the topics:\nPrism\n{'x ' * 60}\n")
    assert [item.topic for item in wanted] == ["Prism"]
    assert [row["origin"]["line"] for row in drops] == [0, 2]


# --------------------------------------------------------------------------------------- JSON

JSON_FORMS = {
    "plain": '{"Physics": {"Optics": ["Refraction", "Prism"], "Waves": ["Standing wave"]}}',
    "fenced": (
        'Sure! Here is [1] your {list}:\n```json\n{"Physics": {"Optics": ["1. Refraction", '
        '"2. Prism",], "Waves": ["Standing wave"]}}\n```\nAnything else?'
    ),
    "two fences": (
        '```json\n{"Physics": {"Optics": ["Refraction", "Prism"]}}\n```\nand\n'
        '```\n{"Physics": {"Waves": ["Standing wave"]}}\n```'
    ),
    "lists of objects": (
        '[{"field": "Physics", "subfields": [{"subfield": "Optics", "topics": ["Refraction", '
        '{"topic": "Prism", "difficulty": "easy"}]}, {"name": "Waves", "description": "x", '
        '"topics": [{"name": "Standing wave", "description": "y"}]}]}]'
    ),
    "wrapped": (
        '{"fields": {"Physics": {"Subfield 1: Optics": ["Refraction", "Prism"], '
        '"Subfield 2: Waves": ["Standing wave"]}}}'
    ),
    "python": "{'Physics': {'Optics': ('Refraction', 'Prism'), 'Waves': ['Standing wave'],},}",
    "curly": "{“Physics”: {“Optics”: [“Refraction”, “Prism”], “Waves”: [“Standing wave”]}}",
    "bare": (
        "{Physics: { // a field\n  Optics: [Refraction, Prism] /* two */\n"
        "  Waves: [Standing wave]}}"
    ),
    "strings": '{"Physics": {"Optics": "Refraction, Prism", "Waves": "Standing wave"}}',
    "a key twice": (
        '{"Physics": {"Optics": ["Refraction", "Prism"]}, "Physics": {"Waves": ["Standing wave"]}}'
    ),
    "numbered members": (
        '{"Physics": {"Optics": {"topic 1": "Refraction", "topic 2": "Prism"}, '
        '"Waves": {"Standing wave": "A wave that swings in time but does not move in space."}}}'
    ),
}


@pytest.mark.parametrize("form", JSON_FORMS)
def test_json_however_it_is_written(tmp_path, form):
    text = JSON_FORMS[form].replace("(", "[").replace(")", "]") if form == "python" else None
    wanted, drops = read(tmp_path, text or JSON_FORMS[form], "topics.json")
    assert wanted == PHYSICS
    assert drops == []


def test_json_with_quotes_in_quotes_and_slashes_in_names(tmp_path):
    text = '{\'Physics/Astronomy\': {"Gases \\/ Liquids": [\'Newton\'s rings\', "the "big" bang"]}}'
    wanted, _ = read(tmp_path, text)
    assert wanted == [
        Wanted("Physics/Astronomy", "Gases / Liquids", "Newton's rings"),
        Wanted("Physics/Astronomy", "Gases / Liquids", 'the "big" bang'),
    ]


def test_deeper_levels_are_joined_and_empty_ones_are_still_to_be_found(tmp_path):
    text = (
        '{"Science": {"Physics": {"Optics": ["Lens"], "Waves": []}, "Logic": null},'
        ' "Art": {}, "Law": {"Criminal": "", "Civil": {"Family": ["Divorce"]}}}'
    )
    wanted, drops = read(tmp_path, text)
    assert wanted == [
        Wanted("Science", "Physics / Optics", "Lens"),
        Wanted("Science", "Physics / Waves"),
        Wanted("Science", "Logic"),
        Wanted("Art"),
        Wanted("Law", "Criminal"),
        Wanted("Law", "Civil / Family", "Divorce"),
    ]
    assert drops == []


def test_subfields_without_topics(tmp_path):
    text = '{"fields": [{"field": "Physics", "subfields": ["1. Optics", "2. Waves"]}]}'
    assert read(tmp_path, text)[0] == [Wanted("Physics", "Optics"), Wanted("Physics", "Waves")]
    text = '[{"field": "Physics", "subfield": "Optics"}, {"subfield": "Waves", "topics": []}]'
    assert read(tmp_path, text)[0] == [Wanted("Physics", "Optics"), Wanted("", "Waves")]


def test_one_level_is_a_field_by_the_files_name_as_published(tmp_path):
    text = '{"Petrology": ["Igneous Petrology"], "Mineralogy": ["Gemology"]}'
    wanted, _ = read(tmp_path, text, "Geology_and_Earth_Sciences.json")
    assert wanted == [
        Wanted("Geology and Earth Sciences", "Petrology", "Igneous Petrology"),
        Wanted("Geology and Earth Sciences", "Mineralogy", "Gemology"),
    ]
    assert read(tmp_path, text, "topics.json")[0][0] == Wanted("Petrology", "", "Igneous Petrology")


def test_a_json_list_is_a_list_of_topics(tmp_path):
    wanted, drops = read(tmp_path, '["Lens", "Star Wars: A New Hope", 5, true, null, ["Slit"]]')
    assert [item.topic for item in wanted] == ["Lens", "Star Wars: A New Hope", "Slit"]
    assert [row["raw"] for row in drops] == ["5", "True"]


def test_json_that_was_cut_off_keeps_what_is_whole(tmp_path):
    text = '{"Physics": {"Optics": [\n"Refraction",\n"Prism",\n"Mirr'
    wanted, drops = read(tmp_path, text)
    assert wanted == PHYSICS[:2]
    assert [(row["origin"]["line"], row["detail"]) for row in drops] == [(3, "JSON: cut off")]


def test_halves_of_characters_cannot_be_stored_and_go(tmp_path):
    wanted, drops = read(tmp_path, r'{"Physics": {"Optics": ["Lens \ud83d", "\ud83d"]}}')
    assert wanted == [Wanted("Physics", "Optics", "Lens")]
    table_of("drops", drops)
    assert len(drops) == 1


def test_broken_and_hostile_json_ends(tmp_path):
    for text in (
        "{" * 5_000 + '"a": ["b"]',
        '[{"' * 3_000,
        '{"a": ]} [} {"b": ["c"]',
        '{"a" "b" "c"',
        '{"a": {"b": ["c"}}',
        "['" * 2_000 + "]" * 2_000,
    ):
        try:
            wanted, drops = read(tmp_path, text)
        except UserError as error:
            assert "topics.txt, line 1" in str(error)
        else:
            assert wanted or drops
    deep = '{"a":' * (MAX_DEPTH + 50) + '["x"]' + "}" * (MAX_DEPTH + 50)
    with pytest.raises(UserError, match="nested deeper"):
        read(tmp_path, deep)


def test_reading_takes_time_in_proportion(tmp_path):
    text = '{"Physics": {"Optics": [' + "'topic's name', " * 20_000
    wanted, _ = read(tmp_path, text)
    assert len(wanted) == 20_000


# ------------------------------------------------------------------------------ files, folders


def test_a_folder_of_all_forms_and_what_cannot_be_read(tmp_path):
    folder = tmp_path / "fields"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.txt").write_text("Physics: Optics\n")
    (folder / "deeper" / "Biology.json").write_text('{"Cells": ["Mitosis"]}')
    (folder / "b.bin").write_bytes(b"ok\n\x93\xfa")
    (folder / "c.txt").write_bytes(b"")
    (folder / "d.txt").write_bytes("Chemistry: Salze, S\u00e4uren".encode("utf-16"))
    (folder / ".hidden").write_text("Secret")
    wanted, drops = read_wanted(folder)
    assert wanted == [
        Wanted("Physics", "Optics"),
        Wanted("Chemistry", "Salze"),
        Wanted("Chemistry", "S\u00e4uren"),
        Wanted("Biology", "Cells", "Mitosis"),
    ]
    assert [(row["source"], row["origin"]["line"]) for row in drops] == [("b.bin", 1)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", r"topics\.txt, line 1: no topic"),
        (b"# only a remark\n\n", r"topics\.txt, line 1: no topic"),
        (b"good\nbad \xff\xfe\n", r"topics\.txt, line 2: not UTF-8"),
        (b"a\0b", r"topics\.txt, line 1: not text"),
        (b'\n{"Physics": {"Opt', r"topics\.txt, line 2: JSON: cut off"),
        (b"{}", r"topics\.txt, line 1: no topic"),
    ],
)
def test_a_file_without_anything_to_read_is_named_with_the_line(tmp_path, body, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, body)


def test_no_file_and_an_empty_folder_are_told(tmp_path):
    with pytest.raises(UserError, match=r"no file or folder .*missing"):
        read_wanted(tmp_path / "missing")
    with pytest.raises(UserError, match="has no file"):
        read_wanted(tmp_path)


# -------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  'Newton's laws'. ", "Newton's laws"),
        ('"Big" and "small"', '"Big" and "small"'),
        ("**Optics**:", "Optics"),
        ("U.S.", "U.S."),
        ("C*-algebra", "C*-algebra"),
        ("\u200bLens\ufeff\u00ad", "Lens"),
        ("e\u0301tale", "\u00e9tale"),
        ("---", ""),
    ],
)
def test_names_alone(text, expected):
    assert clean_name(text) == expected


def test_numbers_are_cut_only_where_the_list_is_numbered():
    assert clean_names(["E. coli", "2. Weltkrieg"]) == ["E. coli", "2. Weltkrieg"]
    assert clean_names(["1. E. coli", "2. Virus"]) == ["E. coli", "Virus"]
    assert clean_names(["2:1 map", "1:1 map"]) == ["2:1 map", "1:1 map"]
    assert clean_names(["", "1. x", ""]) == ["", "x", ""] and clean_names([]) == []


def test_names_are_compared_without_case_dash_and_space():
    assert key_of("Wave\u2013Particle  DUALITY") == key_of("wave-particle duality")
    assert key_of("Ba\u0308r") == key_of("B\u00e4r") != key_of("Bar")


def test_commas_in_brackets_do_not_split():
    assert [part.strip() for part in split_names("a (b, c), d; e, etc.")] == ["a (b, c)", "d", "e"]
    assert [part.strip() for part in split_names("x (y, z")] == ["x (y", "z"]
    assert split_names(" , ;") == []

"""The extractive writer: questions, provenance and drops of a chunk of figures."""

from __future__ import annotations

from cambrian_data.engine.vqa import EXTRACTIVE_VERSION, ExtractiveWriter, VqaConfig, questions_of
from cambrian_data.records import table_of
from tests.cambrian_data.engine.vqa.figures import joined


def test_questions_of_a_run_are_balanced_and_samples_differ() -> None:
    colours = ("red", "blue", "green", "brown")
    captions = [
        f"Plan of house {n} with {2 + n} rooms and a door ({colours[n % 4]})" for n in range(40)
    ]
    rows = [joined(text, caption=text, text="") for text in captions]
    written = ExtractiveWriter(VqaConfig()).write(rows)
    templates = [qa.template for qas in written.questions.values() for qa in qas]
    assert len(templates) >= 40
    assert max(map(templates.count, templates)) <= 0.30 * len(templates)
    assert written.kinds.total() == len(templates)
    titled = [(row["figure"], row["page"]["title"]) for row in rows]
    assert written.questions == questions_of(titled, VqaConfig())


def test_figures_without_a_question_are_dropped() -> None:
    rows = [joined("good"), joined("bad", caption="Xyzzy", text="")]
    written = ExtractiveWriter(VqaConfig()).write(rows)
    assert written.questions["good"] and not written.questions["bad"]
    assert written.about["good"] == {
        "generator": "extractive",
        "prompt_version": EXTRACTIVE_VERSION,
    }
    (row,) = table_of("drops", written.drops).to_pylist()
    assert (row["record_id"], row["reason"], row["raw"]) == ("bad", "no_question", "Xyzzy")
    assert (written.num_left, written.num_passing) == (0, 0)


def test_the_version_knows_what_counts() -> None:
    def version(**section) -> str:
        return ExtractiveWriter(VqaConfig.model_validate(section)).version

    assert version().startswith(EXTRACTIVE_VERSION)
    assert version() == version(llm={"language": "de"})
    assert len({version(), version(seed=1), version(writer={"max_questions": 1})}) == 3

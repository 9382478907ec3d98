"""The writer and the real client at an endpoint that misbehaves: no figure is lost silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cambrian_data.engine.vqa import LlmWriter, VqaConfig
from cambrian_data.llm.client import LlmClient
from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.ledger import Ledger
from cambrian_data.records import table_of
from tests.cambrian_data.engine.vqa.figures import joined
from tests.servers import Server, fake_openai

PROSE = (
    "Water climbs in a thin tube because its molecules hold on to the glass. The thinner the tube, "
    "the higher the column stands, up to 14 millimetres in a tube of 2 millimetres. Mercury does "
    "the opposite: its surface bulges, and the column falls below the level outside. Plants lift "
    "water in this way over short distances, and paper towels drink it up from the table. "
    "The tubes hang in air."
)


def rows(num: int) -> list[dict]:
    return [
        joined(f"figure {n}", caption=f"Column of water in tube {n}.", text=f"{PROSE} Tube {n}.")
        for n in range(num)
    ]


def opened(server: Server, root: Path) -> LlmClient:
    config = LlmConfig(timeout_s=2.0)
    ledger = Ledger(root / "llm.sqlite")
    return LlmClient(config, ledger, model="fake-vision", base_url=server.address, api_key="k")


def test_every_figure_ends_as_questions_or_as_a_drop(root: Path) -> None:
    figures = rows(40)
    with fake_openai(root / "log", "--fail", "0.2", "--ungrounded", "0.3") as server:
        with opened(server, root) as client:
            writer = LlmWriter(
                client, VqaConfig(), workspace_root=root, model="fake-vision", can_see=True
            )
            plan = client.plan(writer.requests(figures))
            assert (plan.calls, len(server.requests())) == (40, 0)
            written = writer.write(figures)
            assert client.plan(writer.requests(figures)).in_ledger == 40
        with opened(server, root) as client:
            again = LlmWriter(
                client, VqaConfig(), workspace_root=root, model="fake-vision", can_see=True
            ).write(figures)
            assert (client.spend().sent, client.spend().from_ledger) == (0, 40)
    assert again == written
    dropped = {row["record_id"] for row in table_of("drops", written.drops).to_pylist()}
    assert dropped | set(written.questions) == {row["figure"]["id"] for row in figures}
    found = Counter(row["reason"] for row in written.drops)
    assert 3 <= found["unfit"] <= 24 and set(found) == {"unfit"}
    assert len(written.questions) >= 12 and (written.num_left, written.num_passing) == (0, 0)
    assert all(image["images"] == 1 for image in server.requests())
    assert {about["model"] for about in written.about.values()} == {"fake-vision"}
    assert len({about["llm_key"] for about in written.about.values()}) == len(written.questions)


def test_ungrounded_answers_of_a_model_that_sees_nothing(root: Path) -> None:
    figures = rows(20)
    with (
        fake_openai(root / "log", "--ungrounded", "0.3") as server,
        opened(server, root) as client,
    ):
        written = LlmWriter(
            client, VqaConfig(), workspace_root=root, model="fake-vision", can_see=False
        ).write(figures)
    found = Counter(row["reason"] for row in written.drops)
    assert set(found) == {"ungrounded"} and found["ungrounded"] % 2 == 0
    assert len(written.questions) == 20 - found["ungrounded"] / 2 > 8
    assert all(image["images"] == 0 for image in server.requests())

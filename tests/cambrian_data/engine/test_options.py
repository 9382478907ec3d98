"""What a user says of a run."""

from __future__ import annotations

from pathlib import Path

from cambrian_data.engine.options import EngineOptions
from cambrian_data.workspace import utc_today


def test_a_turn_of_a_schedule_asks_again_from_its_own_time():
    """Several turns a day are runs of their own, which a day's date would not tell apart."""
    assert EngineOptions().refresh_since is None
    assert EngineOptions(refresh=True).refresh_since == f"{utc_today()}T00:00:00Z"
    turn = "2026-01-02T03:04:05Z"
    assert EngineOptions(refresh=True, refresh_from=turn).refresh_since == turn


def test_a_run_is_called_after_its_topic_or_its_first_file():
    assert EngineOptions(topic="Simple pendulum").dataset_name == "engine-simple-pendulum"
    assert EngineOptions(files=(Path("a/My fields.txt"),)).dataset_name == "engine-my-fields"
    assert EngineOptions(topic="x", dataset="mine").dataset_name == "mine"

"""The log and the mean losses of the first and the last tenth."""

from __future__ import annotations

from cambrian_model.metrics import JsonlLog, LossTenths


def test_a_log_is_cut_back_to_a_step(tmp_path):
    log = JsonlLog(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.write(step=step)
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    log.rewind(3)
    assert log.path.read_text().count("\n") == 3


def test_tenths_are_means_of_the_first_and_the_last_steps():
    tenths = LossTenths(30)
    for step in range(1, 31):
        tenths.add(step, float(step))
    assert tenths.means() == (2.0, 29.0)

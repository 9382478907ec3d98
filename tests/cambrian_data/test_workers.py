"""Work in processes: results, killed workers, killed parents, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from cambrian_data.records import RunFailed, UserError
from cambrian_data.workers import default_workers, map_in_processes
from cambrian_data.workspace import is_alive

REPOSITORY = Path(__file__).parent.parent.parent


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def die_at(number: int, folder: Path, piece: int) -> int:
    """Kill the process at one piece, so often as `number` says."""
    marks = len(list(folder.glob(f"{piece}-*")))
    (folder / f"{piece}-{marks}").touch()
    if piece == 3 and marks < number:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


def fail(piece: int) -> int:
    if piece == 2:
        raise UserError(f"piece {piece} is no good")
    return piece


class Stubborn(Exception):
    """An error that cannot be pickled back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def fail_stubbornly(piece: int) -> int:
    raise Stubborn("a", "b")


def sleep(folder: Path, piece: int) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(600)


def sleep_after_first(folder: Path, piece: int) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    if piece:
        time.sleep(600)


def pids_in(folder: Path, wanted: int) -> list[int]:
    """Wait until so many workers have said who they are."""
    deadline = time.monotonic() + 60
    while len(found := list(folder.glob("*.pid"))) < wanted:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.02)
    return [int(path.stem) for path in found]


def gone(pids: list[int]) -> bool:
    """Wait until processes have ended (one that nobody has waited for yet has)."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(is_alive(pid) and _state(pid) != "Z" for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_results_come_with_their_numbers_from_other_processes():
    found = dict(map_in_processes(square, range(20), 2))
    assert {number: result for number, (result, _) in found.items()} == {
        number: number * number for number in range(20)
    }
    pids = {pid for _, pid in found.values()}
    assert len(pids) == 2 and os.getpid() not in pids


def test_one_worker_is_this_process():
    assert list(map_in_processes(square, [3], 1)) == [(0, (9, os.getpid()))]


def test_nothing_to_do_is_done():
    assert list(map_in_processes(square, [], 2)) == []


def test_no_more_pieces_are_drawn_than_there_are_workers():
    drawn = []

    def pieces():
        for number in range(10):
            drawn.append(number)
            yield number

    results = map_in_processes(square, pieces(), 2)
    next(results)
    assert len(drawn) <= 3
    results.close()


def test_a_killed_worker_is_replaced_and_its_piece_sent_again(tmp_path):
    found = dict(map_in_processes(partial(die_at, 2, tmp_path), range(8), 2))
    assert found == {number: number for number in range(8)}
    assert len(list(tmp_path.glob("3-*"))) == 3


def test_a_piece_that_kills_three_workers_is_named(tmp_path):
    with pytest.raises(RunFailed, match=r"piece 3 \(3\).*3 processes died"):
        list(map_in_processes(partial(die_at, 9, tmp_path), range(8), 2))


def test_errors_keep_their_kind_and_say_where():
    with pytest.raises(UserError, match="piece 2 is no good") as caught:
        list(map_in_processes(fail, range(8), 2))
    assert "in a worker process" in "".join(caught.value.__notes__)
    with pytest.raises(RunFailed, match="Stubborn: ab"):
        list(map_in_processes(fail_stubbornly, range(2), 2))


def test_closing_ends_workers_in_the_middle_of_a_piece(tmp_path):
    results = map_in_processes(partial(sleep_after_first, tmp_path), range(2), 2)
    assert next(results) == (0, None)
    pids = pids_in(tmp_path, 2)
    results.close()
    assert gone(pids)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, sent):
    program = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from cambrian_data.workers import map_in_processes\n"
        "from tests.cambrian_data.test_workers import sleep\n"
        "list(map_in_processes(partial(sleep, Path(sys.argv[1])), range(2), 2))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, stderr=subprocess.PIPE
    )
    pids = pids_in(tmp_path, 2)
    parent.send_signal(sent)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode == -sent
    assert gone(pids)
    assert errors.count(b"Traceback") == (sent == signal.SIGINT)  # the parent's own


def test_number_of_workers_is_bounded():
    assert 1 <= default_workers() <= 4

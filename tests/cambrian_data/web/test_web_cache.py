"""The cache file: what is kept, what goes, damage, full disks, several processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cambrian_data.web.cache import CachedAnswer, HttpCache

NOISE = random.Random(0).randbytes(10_000)


def answer(body: bytes = b"body", at: float = 5.0) -> CachedAnswer:
    return CachedAnswer(
        status=200,
        headers={"content-type": "text/html", "etag": '"1"'},
        body=body,
        fetched_at="2026-01-01T00:00:00Z",
        validated_at=at,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deeper" / "http-cache.sqlite"


@pytest.fixture
def cache(path):
    with HttpCache(path, max_bytes=2**30) as cache:
        yield cache


def test_what_is_put_is_there(cache, path):
    assert cache.get("a") is None
    cache.put("a", answer())
    cache.put("a", answer(b"newer"))
    cache.validated("a", 9.5, {"etag": '"2"'})
    found = cache.get("a")
    assert (found.body, found.validated_at, found.headers) == (b"newer", 9.5, {"etag": '"2"'})
    assert found.fetched_at == "2026-01-01T00:00:00Z"
    with HttpCache(path, max_bytes=2**30) as other:
        assert other.get("a") == found


def test_notes(cache):
    assert cache.note("picture", "a") is None
    cache.put_note("picture", "a", {"sha256": "ab", "n": [1, None]})
    cache.put_note("other", "a", {})
    cache.put_note("picture", "a", {"sha256": "cd"})
    assert cache.note("picture", "a") == {"sha256": "cd"}
    assert cache.note("other", "a") == {}


def test_bodies_are_packed(cache, path):
    cache.put("a", answer(b"word " * 1_000_000))
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 500_000


def kept(cache: HttpCache, num: int = 40) -> list[int]:
    return [number for number in range(num) if cache.get(f"key {number}")]


def test_the_least_recently_used_go_first(path, clock):
    with HttpCache(path, max_bytes=205_000, clock=clock) as cache:
        for number in range(20):
            cache.put(f"key {number}", answer(NOISE))
            clock.now += 1
        assert 17 <= len(kept(cache)) <= 19
    with HttpCache(path, max_bytes=205_000, clock=clock) as cache:
        clock.now += 1
        first = kept(cache)[0]
        clock.now += 1
        cache.get(f"key {first}")
        for number in range(20, 40):
            clock.now += 1
            cache.get(f"key {first}")
            cache.put(f"key {number}", answer(NOISE))
            assert cache.get(f"key {number}"), "what was just put stays"
        left = kept(cache)
        assert left[0] == first and left[-1] == 39 and 17 <= len(left) <= 20
        assert left[1:] == list(range(left[1], 40))


def test_what_is_freed_is_given_back(path):
    with HttpCache(path, max_bytes=2_000_000) as cache:
        for number in range(100):
            cache.put(f"key {number}", answer(NOISE))
    assert path.stat().st_size > 1_000_000
    with HttpCache(path, max_bytes=100_000) as cache:
        cache.put("key 100", answer(NOISE))
    assert path.stat().st_size < 300_000


def test_notes_stay_unless_they_alone_pass_the_cap(path, clock):
    with HttpCache(path, max_bytes=50_000, clock=clock) as cache:
        for number in range(100):
            clock.now += 1
            cache.put_note("picture", str(number), {"n": number})
            cache.put(f"key {number}", answer(NOISE))
        assert all(cache.note("picture", str(number)) for number in range(100))
        for number in range(100, 400):
            clock.now += 1
            cache.put_note("picture", str(number), {"n": number})
        notes = [number for number in range(400) if cache.note("picture", str(number))]
        assert notes == list(range(notes[0], 400)) and 190 < len(notes) < 240


def test_an_answer_larger_than_the_cap(path):
    with HttpCache(path, max_bytes=5_000) as cache:
        cache.put("a", answer(NOISE))
        cache.put("b", answer(b"small"))
        assert cache.get("a") is None and cache.get("b")


@pytest.mark.parametrize(
    "content", [b"this is no database at all " * 100, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_database(path, caplog, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with HttpCache(path, max_bytes=2**30) as cache:
        cache.put("a", answer())
        assert cache.get("a")
    aside = path.with_name("http-cache.sqlite.damaged")
    assert aside.read_bytes() == content and "http-cache.sqlite.damaged" in caplog.text


def test_a_database_of_something_else(path, caplog):
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE answers (question TEXT)")
    database.close()
    with HttpCache(path, max_bytes=2**30) as cache:
        cache.put("a", answer())
        assert cache.get("a")
    assert "damaged" in caplog.text


def test_damage_within_a_file_in_use(path, caplog):
    with HttpCache(path, max_bytes=2**30) as cache:
        for number in range(50):
            cache.put(f"key {number}", answer(NOISE))
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)
    with HttpCache(path, max_bytes=2**30) as cache:
        for number in range(50):
            found = cache.get(f"key {number}")
            assert found is None or found.body == NOISE
            cache.put(f"key {number}", answer(NOISE))
        assert kept(cache, 50) == list(range(50))
    assert path.with_name("http-cache.sqlite.damaged").exists() and "damaged" in caplog.text


def test_a_damaged_body_is_as_if_never_fetched(cache, path, caplog):
    cache.put("a", answer())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE answers SET body = x'00'")
    database.close()
    assert cache.get("a") is None and "damaged" in caplog.text
    cache.put("a", answer())
    assert cache.get("a").body == b"body"


def test_a_full_disk_is_said(cache, path):
    cache._database.execute("PRAGMA max_page_count = 20").fetchall()
    with pytest.raises(OSError) as caught:
        for number in range(100):
            cache.put(f"key {number}", answer(NOISE))
    assert caught.value.errno == errno.ENOSPC and str(path) in str(caught.value)
    cache._database.execute("PRAGMA max_page_count = 2000").fetchall()
    cache.put("after", answer())
    assert cache.get("after"), "and it goes on where there is room again"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        HttpCache(tmp_path / "file" / "http-cache.sqlite", max_bytes=1)
    (tmp_path / "http-cache.sqlite").mkdir()
    with pytest.raises(OSError, match=r"http-cache\.sqlite"):
        HttpCache(tmp_path / "http-cache.sqlite", max_bytes=1)


def test_many_threads(cache):
    def work(number: int) -> None:
        for step in range(30):
            cache.put(f"key {step}", answer(NOISE[number:]))
            assert NOISE.endswith(cache.get(f"key {step}").body)
            cache.put_note("n", str(step), {"by": number})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert kept(cache) == list(range(30))
    sizes = dict(cache._database.execute("SELECT name, bytes FROM sizes").fetchall())
    for table in ("answers", "notes"):
        total = cache._database.execute(f"SELECT sum(size) FROM {table}").fetchone()[0]
        assert sizes[table] == total


def _fill(path, number: int, start) -> None:
    start.wait()
    with HttpCache(path, max_bytes=2**30) as cache:
        for step in range(40):
            cache.put(f"{number} {step}", answer(NOISE))
            cache.put(f"shared {step}", answer(NOISE))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_several_processes(path, is_damaged):
    path.parent.mkdir()
    if is_damaged:
        path.write_bytes(b"no database " * 1000)
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=_fill, args=(path, number, start)) for number in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with HttpCache(path, max_bytes=2**30) as cache:
        for step in range(40):
            assert cache.get(f"shared {step}")
            assert all(cache.get(f"{number} {step}") for number in range(4))
        sizes = dict(cache._database.execute("SELECT name, bytes FROM sizes").fetchall())
        assert sizes["answers"] == sum(
            row[0] for row in cache._database.execute("SELECT size FROM answers")
        )


def test_what_was_put_survives_a_kill(path):
    code = (
        "import sys; from pathlib import Path\n"
        "from cambrian_data.web.cache import CachedAnswer, HttpCache\n"
        "cache = HttpCache(Path(sys.argv[1]), max_bytes=2**30)\n"
        "for n in range(10**6):\n"
        "    cache.put(f'key {n}', CachedAnswer(status=200, headers={}, body=b'x' * n,\n"
        "        fetched_at='', validated_at=0.0))\n"
        "    print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    seen = [int(child.stdout.readline()) for _ in range(100)][-1]
    os.kill(child.pid, signal.SIGKILL)
    seen = max([seen, *(int(line) for line in child.stdout.read().split(b"\n")[:-1] if line)])
    child.wait()
    child.stdout.close()
    with HttpCache(path, max_bytes=2**30) as cache:
        for number in range(seen + 1):
            assert cache.get(f"key {number}").body == b"x" * number


def test_closed_is_closed(path):
    cache = HttpCache(path, max_bytes=2**30)
    cache.close()
    cache.close()
    with pytest.raises(OSError, match="closed"):
        cache.get("a")
    assert threading.active_count() >= 1

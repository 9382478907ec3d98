"""A whole small web that fails three times in ten: everything is had, politely."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cambrian_data.web.answers import FetchError
from tests.reference import shared

RATE = 60


@pytest.fixture
def mini(tmp_path):
    tool, pages, log = shared("tools") / "mini_web.py", tmp_path / "pages", tmp_path / "log.jsonl"
    pages.mkdir()
    for name in range(4):
        images = "".join(f'<img src="p{name}_{number}.png"/>' for number in range(2))
        (pages / f"Page_{name}.html").write_text(f"<p>Text of page {name}</p>{images}")
    options = ["--port", "0", "--fail", "0.3", "--log", str(log), "--seed", "1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        options[1] = str(free.getsockname()[1])
    child = subprocess.Popen(
        [sys.executable, tool, pages, *options], stdout=subprocess.PIPE, text=True
    )
    first = child.stdout.readline()

    def lines(num: int) -> list[dict]:
        """So many lines: a request is written down only after it was answered."""
        while len(found := log.read_text().splitlines()) < num:
            time.sleep(0.01)
        assert len(found) == num
        return [json.loads(line) for line in found]

    yield first.split()[-1], lines
    child.terminate()
    child.wait()
    child.stdout.close()


def is_picture(answer):
    return None if answer.body.startswith(b"\x89PNG") else "no picture"


def test_all_is_had(mini, make):
    url, log = mini
    client = make(requests_per_second=RATE)

    def had(path: str, kind: str, **more) -> object:
        try:
            return client.get(url + path, kind=kind, **more)
        except FetchError as error:
            return error.reason

    def page(number: int) -> list:
        path = f"/wiki/{'Old_' * (number % 2)}Page_{number}"
        answer = client.get(url + path, kind="page")
        assert answer.final_url == f"{url}/wiki/Page_{number}" and b"Text" in answer.body
        names = re.findall(rb"/(?:media|private)/\w+\.png", answer.body)
        assert len(names) == 3
        return [had(name.decode(), "picture", is_good=is_picture) for name in names]

    def search(number: int) -> dict:
        more = {"params": {"q": f"page {number}", "format": "json"}}
        return json.loads(client.get(f"{url}/search", kind="service", **more).body)

    with ThreadPoolExecutor(8) as pool:
        pages = pool.map(page, range(4))
        hits = list(pool.map(search, range(4)))
        leap = pool.submit(had, "/leap", "page")
        pictures = [picture for found in pages for picture in found]
    assert leap.result() == "bad_address" and all(found["results"] for found in hits)
    reasons = [found for found in pictures if isinstance(found, str)]
    assert reasons.count("robots") == 4 and set(reasons) <= {"robots", "missing"}
    assert all(not is_picture(found) for found in pictures if not isinstance(found, str))
    lines = log(client.numbers()["requests"])
    assert not [line for line in lines if line["path"].startswith("/private/")]
    assert [line["path"] for line in lines].count("/robots.txt") == 1
    assert len([line for line in lines if line["status"] not in (200, 301, 302, 404)]) > 3
    # The server writes down when it has answered, which is a little uneven; hence windows.
    times = sorted(line["time"] for line in lines)
    assert all(later - times[at] > 9 / RATE - 0.05 for at, later in enumerate(times[9:]))

    again = make()
    for number in range(4):
        assert again.get(f"{url}/wiki/Page_{number}", kind="page").from_cache
    fresh = make(refresh_since="2100-01-01")
    assert fresh.get(f"{url}/wiki/Page_0", kind="page").from_cache
    assert fresh.numbers()["not_modified"] == 1
    assert log(len(lines) + 1)[-1]["status"] == 304

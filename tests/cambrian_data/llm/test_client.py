"""The client against a server that works, one that fails at random, and ones that misbehave."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cambrian_data import records
from cambrian_data.llm.client import LlmAnswer, LlmRequest
from cambrian_data.llm.ledger import Ledger
from cambrian_data.records import RunFailed, UserError
from tests.cambrian_data.llm.servers import GOOD, KEY, QA, ask_for, said

REPOSITORY = Path(__file__).parents[3]


def texts(num: int) -> list[str]:
    return [f"page {i}: " + "what the page says of its picture " * 5 for i in range(num)]


def test_all_end_well_against_a_failing_server_and_cost_nothing_again(fake, client):
    server = fake("--fail", 0.3, "--latency", 0.01)
    requests = [ask_for(text) for text in texts(200)]
    first = client(server.url, settings={"timeout_s": 2, "max_open_calls": 64})
    given: list[tuple[int, LlmAnswer]] = []
    answers = first.ask(requests, on_answer=lambda at, answer: given.append((at, answer)))

    assert [answer.outcome for answer in answers] == ["ok"] * 200
    assert all(isinstance(answer.value, QA) for answer in answers)
    assert sorted(at for at, _ in given) == list(range(200))
    assert all(answers[at] is answer for at, answer in given)
    spend = first.spend()
    assert spend.answers["ok"] == 200 and spend.retries > 20 and spend.repeated == 0
    assert spend.sent == 200 + spend.retries
    assert {"refusal", "empty_answer", "cut_off", "malformed"} <= set(spend.answers)
    assert {line["key"] for line in server.lines()} == {
        hashlib.sha256(first.encode(request).body).hexdigest() for request in requests
    }

    again = client(server.url)
    assert again.plan(requests).calls == 0
    repeated = again.ask(requests)
    assert [answer.value for answer in repeated] == [answer.value for answer in answers]
    assert all(answer.from_ledger for answer in repeated)
    assert again.spend().sent == 0 and again.spend().from_ledger == 200
    assert again.calls() == first.calls()
    records.table_of("llm_calls", again.calls())
    assert {row["status"] for row in again.calls()} == {"ok"}


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from cambrian_data.llm.client import LlmClient, LlmConfig
from cambrian_data.llm.ledger import Ledger
from tests.cambrian_data.llm.servers import ask_for
from tests.cambrian_data.llm.test_client import texts
with Ledger(Path({path!r})) as ledger:
    client = LlmClient(LlmConfig(max_open_calls=8), ledger, model="fake-vision",
                       base_url={url!r}, api_key="k")
    client.ask(map(ask_for, texts(100)), lambda at, answer: print(at, flush=True))
"""


def test_a_kill_repeats_no_more_than_was_open(fake, client, tmp_path):
    server = fake("--latency", 0.05)
    path = tmp_path / "killed.sqlite"
    code = KILLED.format(root=str(REPOSITORY), path=str(path), url=server.url)
    for num_answers in (10, 25):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(num_answers):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
    with Ledger(path) as ledger:
        resumed = client(server.url, api_key="k", ledger=ledger)
        answers = resumed.ask(map(ask_for, texts(100)))
        spend = resumed.spend()
    assert {answer.outcome for answer in answers} == {"ok"}
    assert spend.from_ledger >= 25 and spend.sent == 100 - spend.from_ledger
    assert 0 < spend.repeated <= 8
    sent = Counter(line["key"] for line in server.lines())
    assert len(sent) == 100
    assert sum(count - 1 for count in sent.values()) <= 2 * 8


def test_a_server_without_schemas_is_asked_in_words(fake, client):
    server = fake("--no-schema", "--latency", 0.01)
    request = ask_for(f"{GOOD} is what the caption says")  # the server repeats it
    first = client(server.url)
    answers = first.ask([request, *(ask_for(f"{GOOD} number {i}") for i in range(40))])
    assert {answer.outcome for answer in answers} == {"ok"}
    assert answers[0].value == QA.model_validate_json(GOOD)
    assert first.spend().answers == {"ok": 41}
    again = client(server.url)
    assert again.ask([request])[0].from_ledger


def test_what_a_server_refuses_is_remembered(tiny, client):
    def answer(call, number):
        if "response_format" in call.body:
            error = {"message": "json_schema is not supported", "param": "response_format"}
            return 400, {"error": error}
        if "max_tokens" in call.body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {"error": {"message": message, "code": "unsupported_parameter"}}
        if "temperature" in call.body:
            message = "Unsupported value: 'temperature' does not support 0.0 with this model"
            return 400, {"error": {"message": message, "param": "temperature"}}
        return 200, said(f"Here it is:\n```json\n{GOOD}\n```")

    server = tiny(answer)
    settings = {"temperature": 0.0, "max_open_calls": 1}
    assert client(server.url, settings=settings).ask([ask_for("a")])[0].outcome == "ok"
    assert len(server.calls) == 4
    last = server.calls[-1].body
    assert last["max_completion_tokens"] == 50 and "temperature" not in last
    assert last["messages"][0]["role"] == "system"
    assert '"grounded"' in last["messages"][0]["content"]
    assert last["messages"][1]["content"] == "a"

    again = client(server.url, settings=settings)
    assert again.ask([ask_for("a"), ask_for("b")])[0].from_ledger
    assert len(server.calls) == 5


def test_answers_from_before_a_refusal_still_count(tiny, client, ledger):
    server = tiny(lambda call, number: (200, said(GOOD)))
    assert client(server.url).ask([ask_for("a")])[0].outcome == "ok"
    ledger.learn(server.url, "fake-vision", "no_json_schema")
    assert client(server.url).ask([ask_for("a")])[0].from_ledger
    assert len(server.calls) == 1


def test_useless_answers_are_paid_for_up_to_a_limit(tiny, client):
    server = tiny(lambda call, number: (200, said(None, refusal="I can't help with that.")))
    first = client(server.url)
    answer = first.ask([ask_for("a")])[0]
    assert (answer.outcome, answer.detail) == ("refusal", "I can't help with that.")
    assert not answer.is_passing and not answer.from_ledger
    assert (answer.prompt_tokens, answer.completion_tokens) == (40, 20)
    assert first.spend().answers == {"refusal": 4}
    assert client(server.url).ask([ask_for("a")])[0].from_ledger
    assert len(server.calls) == 4
    more = client(server.url, settings={"max_answers": 5})
    assert not more.ask([ask_for("a")])[0].from_ledger
    assert len(server.calls) == 5


def test_a_server_that_fails_is_asked_again_by_the_next_run(tiny, client):
    state = {"status": 500}
    server = tiny(lambda call, number: (state["status"], said(GOOD)))
    settings = {"max_tries": 2}
    answer = client(server.url, settings=settings).ask([ask_for("a")])[0]
    assert answer.outcome == "llm_error" and answer.is_passing and "500" in answer.detail
    assert len(server.calls) == 2
    state["status"] = 200
    again = client(server.url, settings=settings)
    assert again.ask([ask_for("a")])[0].outcome == "ok"
    assert again.spend().repeated == 0


def test_a_silent_server_ends_the_run(client, tiny):
    server = tiny(lambda call, number: (503, {}))
    failing = client(server.url, settings={"max_tries": 1, "max_silence_s": 0})
    with pytest.raises(RunFailed, match="answered nothing"):
        failing.ask(ask_for(text) for text in texts(50))
    assert len(server.calls) < 50
    with pytest.raises(RunFailed, match="has answered nothing"):
        client("http://127.0.0.1:9/v1", settings={"max_tries": 1}).ask([ask_for("a")])


def test_broken_bodies_are_tried_again(tiny, client):
    whole = said(GOOD)

    def answer(call, number):
        if number == 1:
            return 200, b'{"choices": [{"mess'
        if number == 2:
            return 200, b'{"choi', {"Content-Length": "500"}
        if number == 3:
            return 200, {"error": {"message": "overloaded", "code": 502}}
        return 200, whole

    server = tiny(answer)
    asked = client(server.url)
    assert asked.ask([ask_for("a")])[0].outcome == "ok"
    assert len(server.calls) == 4 and asked.spend().answers == {"malformed": 1, "ok": 1}


def test_a_server_that_asks_to_wait_is_waited_for(tiny, client):
    def answer(call, number):
        if number == 1:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After-Ms": "400"}
        return 200, said(GOOD)

    server = tiny(answer)
    client(server.url, settings={"max_open_calls": 1}).ask([ask_for("a"), ask_for("b")])
    assert server.calls[1].at - server.calls[0].at >= 0.39  # nobody else was faster
    long = tiny(lambda call, number: (429, {"error": {}}, {"Retry-After": "86400"}))
    with pytest.raises(RunFailed, match="asks to wait 86400 s"):
        client(long.url).ask([ask_for("a")])


def test_no_quota_ends_the_run_and_keeps_what_is_open(tiny, client):
    def answer(call, number):
        if number <= 3:
            time.sleep(0.2)
            return 200, said(GOOD)
        error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
        return 429, {"error": error}

    server = tiny(answer)
    given: list[LlmAnswer] = []
    with pytest.raises(RunFailed, match="no quota left"):
        client(server.url, settings={"max_open_calls": 4}).ask(
            map(ask_for, texts(60)), lambda at, answer: given.append(answer)
        )
    assert len(given) == 3
    assert len(server.calls) < 10


def test_a_wrong_key_is_named_but_not_shown(tiny, client, ledger):
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    server = tiny(lambda call, number: (401, echo))
    with pytest.raises(UserError, match="OPENAI_API_KEY") as failure:
        client(server.url).ask([ask_for("a")])
    assert server.url in str(failure.value) and KEY not in str(failure.value)
    assert "Bearer " + KEY in server.calls[0].headers.values()
    assert KEY.encode() not in b"".join(p.read_bytes() for p in ledger.path.parent.iterdir())


def test_an_unknown_model_is_an_error_that_names_those_there_are(tiny, client):
    missing = {"error": {"message": "The model does not exist", "code": "model_not_found"}}
    server = tiny(lambda call, number: (404, missing), models=["small", "large"])
    with pytest.raises(UserError, match=r"no model 'medium'.*large, small"):
        client(server.url, model="medium").ask([ask_for("a")])
    silent = tiny(lambda call, number: (404, missing))
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        client(silent.url, model="medium").ask([ask_for("a")])


def test_a_model_that_cannot_see_is_an_error(tiny, client):
    message = "Invalid content type. image_url is only supported by certain models."
    server = tiny(lambda call, number: (400, {"error": {"message": message}}))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = LlmRequest(messages=[{"role": "user", "content": [picture]}], schema=QA, max_tokens=9)
    with pytest.raises(UserError, match=r"vqa\.llm\.show_picture=never"):
        client(server.url).ask([request])
    assert client(server.url).ask([ask_for("a")])[0].outcome == "llm_error"


def test_a_request_that_the_server_refuses_is_settled(tiny, client):
    error = {"error": {"message": "maximum context length is 10 tokens " + "x" * 2_000}}
    server = tiny(lambda call, number: (400, error))
    answer = client(server.url).ask([ask_for("a")])[0]
    assert answer.outcome == "llm_error" and not answer.is_passing
    assert "maximum context length" in answer.detail and len(answer.detail) < 600
    assert client(server.url).ask([ask_for("a")])[0].from_ledger
    assert len(server.calls) == 1


def test_answers_without_usage_are_estimated(tiny, client, ledger):
    bare = {"choices": said(GOOD)["choices"]}
    asked = client(tiny(lambda call, number: (200, bare)).url)
    answer = asked.ask([ask_for("words " * 100)])[0]
    assert answer.prompt_tokens > 100 and answer.completion_tokens > 5
    assert ledger.answers(answer.key)[0].is_estimated


def test_the_same_request_from_many_threads_is_sent_once(tiny, client):
    def answer(call, number):
        time.sleep(0.1)
        return 200, said(GOOD)

    server = tiny(answer)
    asked = client(server.url, settings={"max_open_calls": 4})
    found: list[LlmAnswer] = []

    def ask() -> None:
        found.extend(asked.ask([ask_for("same"), ask_for("same"), ask_for("other")]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24 and {answer.outcome for answer in found} == {"ok"}
    assert len(server.calls) == 2
    assert asked.spend().from_ledger == 22 and asked.spend().open == 0


def test_requests_are_made_as_room_is_there(tiny, client):
    made: list[int] = []
    seen: list[int] = []

    def answer(call, number):
        seen.append(len(made))
        time.sleep(0.02)
        return 200, said(GOOD)

    def requests():
        for at, text in enumerate(texts(100)):
            made.append(at)
            yield ask_for(text)

    server = tiny(answer)
    client(server.url, settings={"max_open_calls": 4}).ask(requests())
    assert all(num_made <= at + 2 * 4 + 1 for at, num_made in enumerate(seen))


def test_an_interrupt_cancels_what_is_open(tiny, client):
    hang = threading.Event()

    def answer(call, number):
        if number > 1:
            hang.wait(30)
        return 200, said(GOOD)

    server = tiny(answer)
    asked = client(server.url, settings={"timeout_s": 60, "max_open_calls": 4})

    def interrupt(at: int, answer: LlmAnswer) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asked.ask(map(ask_for, texts(20)), interrupt)
    asked.close()
    hang.set()
    assert time.monotonic() - start < 20
    assert asked.spend().open == 0
    with pytest.raises(RunFailed, match="closed"):
        asked.ask([ask_for("z")])
    resumed = client(server.url)
    resumed.ask(map(ask_for, texts(20)))
    assert resumed.spend().from_ledger >= 1 and resumed.spend().repeated >= 1


def test_close_frees_askers_in_other_threads(tiny, client):
    hang = threading.Event()
    started = threading.Event()

    def answer(call, number):
        started.set()
        hang.wait(30)
        return 200, said(GOOD)

    asked = client(tiny(answer).url, settings={"timeout_s": 60})
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            asked.ask([ask_for("a")])
        except RunFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=ask)
    thread.start()
    started.wait(10)
    asked.close()
    thread.join(10)
    hang.set()
    assert not thread.is_alive() and "closed" in str(failures[0])


def test_a_full_disk_ends_the_run(tiny, client, ledger):
    server = tiny(lambda call, number: (200, said(GOOD)))
    asked = client(server.url)
    asked.ask([ask_for("a")])
    pages = ledger._writer.execute("PRAGMA page_count").fetchone()[0]
    ledger._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match=r"No space left on device.*llm\.sqlite"):
        asked.ask(ask_for(text * 50) for text in texts(20))
    assert len(server.calls) < 21


def test_a_damaged_ledger_is_never_begun_anew(tiny, client, tmp_path):
    server = tiny(lambda call, number: (200, said(GOOD)))
    path = tmp_path / "other.sqlite"
    with Ledger(path) as ledger:
        key = client(server.url, ledger=ledger).ask([ask_for("a")])[0].key
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET raw = substr(raw, 1, 20)")
    connection.close()
    with Ledger(path) as ledger, pytest.raises(UserError, match="restore a copy") as failure:
        client(server.url, ledger=ledger).ask([ask_for("a")])
    assert str(path) in str(failure.value) and key in str(failure.value)
    assert len(server.calls) == 1


def test_half_characters_are_sent_as_the_sign_for_none(tiny, client):
    server = tiny(lambda call, number: (200, said(GOOD)))
    assert client(server.url).ask([ask_for("cut \ud83d here")])[0].outcome == "ok"
    assert server.calls[0].body["messages"][0]["content"] == "cut \ufffd here"

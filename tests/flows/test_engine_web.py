"""The engine against a web and an LLM that often fail: nothing wrong, nothing lost."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from cambrian_data.catalog import query
from cambrian_data.engine.extract import ExtractConfig, extract, filter_figures
from cambrian_data.engine.options import EngineOptions
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace
from flows.engine import run_engine
from tests.reference import shared
from tests.servers import fake_openai, mini_web

RATE = 150
PAGES = (
    "html/anchor_sri_lanka",
    "html/hakibenita_sql_anomaly",
    "html/steinzeitwissen_werkzeuge",
    "html/nature_pitch_drop_2013",
    "wikipedia/en_duck.modern",
    "wikipedia/en_donskoy_cat.modern",
    "wikipedia/en_hermitian_matrix.legacy",
    "wikipedia/en_apple.parse",
    "wikipedia/fr_okapi.parse",
    "wikipedia/en_mosfet.mobilehtml",
)
BACKENDS = {
    "searxng": {"CAMBRIAN_SEARXNG_URL": "{web}/search"},
    "google": {
        "GOOGLE_API_KEY": "g-secret",
        "GOOGLE_SE_ID": "cx",
        "CAMBRIAN_GOOGLE_ENDPOINT": "{web}/customsearch/v1",
    },
    "brave": {
        "BRAVE_API_KEY": "b-secret",
        "CAMBRIAN_BRAVE_ENDPOINT": "{web}/res/v1/web/search",
    },
    "wikipedia": {"CAMBRIAN_MEDIAWIKI_API": "{web}/w/api.php"},
}


def tool(name: str):
    """Import a program of the reference tools."""
    spec = importlib.util.spec_from_file_location(name, shared("tools") / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Some of the saved pages."""
    folder = tmp_path_factory.mktemp("pages")
    for name in PAGES:
        for path in (shared("webdata")).glob(f"{name}.*"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """For each backend: the workspace, what the run returned, and both servers' logs."""
    made = {}
    root = tmp_path_factory.mktemp("web")
    for name, variables in BACKENDS.items():
        workspace = Workspace.create(root / name)
        with (
            mini_web(folder, root / f"{name}.web", "--fail", "0.2") as web,
            fake_openai(root / f"{name}.llm", "--fail", "0.1", "--ungrounded", "0.1") as llm,
        ):
            environment = {
                key: value.format(web=web.address) for key, value in variables.items()
            } | {"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": llm.address}
            topics = root / "topics.txt"
            topics.write_text("\n".join(titles(folder)))
            result = run_engine(
                workspace,
                EngineOptions(
                    files=(topics,), search=name, llm="fake-vision", allow_private_hosts=True
                ),
                settings=[f"http.requests_per_second={RATE}", "search.hits_per_topic=20"],
                environment=environment,
            )
            made[name] = workspace, result, web, llm
    return made


def titles(folder: Path) -> list[str]:
    """Return a word or two for each page that lead a search to it."""
    names = {path.name.split(".")[0].replace("_", " ") for path in folder.glob("*.html")}
    return sorted({*names, "apple", "okapi"})


def rows(workspace, sql):
    return query(workspace, sql).to_pylist()


@pytest.fixture(params=BACKENDS)
def run(request, runs):
    return runs[request.param]


def test_every_figure_whose_picture_can_be_had_is_there_with_its_own_picture(run, folder):
    """The pictures of this web show their own name as a pattern."""
    workspace, _, web, _ = run
    helper = tool("mini_web")
    served = helper.Web(folder, web.address).pages
    pages = rows(workspace, "SELECT id, final_url FROM pages")
    assert len(pages) == len(served)
    num_checked = 0
    for page in pages:
        title = unquote(urlsplit(page["final_url"]).path).removeprefix("/wiki/")
        found = extract(served[title], page["final_url"])
        wanted, _ = filter_figures(found, ExtractConfig(min_words=50))
        got = {
            (row["image_url"], row["caption"]): row["image_sha256"]
            for row in rows(workspace, f"SELECT * FROM figures WHERE page_id = '{page['id']}'")
        }
        for figure in wanted:
            name = helper.file_name(figure.image_url)
            sha256 = got[figure.image_url, figure.caption]
            is_gone = helper.hashlib.sha256(name.encode()).hexdigest().startswith("0")
            if "/private/" in figure.image_url or is_gone:
                assert sha256 is None
                continue
            (path,) = workspace.images.glob(f"??/{sha256}.*")
            with Image.open(path) as image:
                assert helper.read_name_bits(image) == helper.name_bits(name), figure.image_url
            num_checked += 1
    assert num_checked > 40


def test_samples_hold_the_picture_of_their_own_figure(run):
    workspace, result, _, _ = run
    assert result["funnel"]["samples"] > 20
    wrong = rows(
        workspace,
        "SELECT count(*) AS n FROM samples s LEFT JOIN figures f ON f.id = s.figure_id "
        "WHERE f.id IS NULL OR s.images[1].sha256 <> f.image_sha256 "
        "OR s.provenance.caption <> f.caption OR s.provenance.llm_key IS NULL",
    )
    assert wrong == [{"n": 0}]


def test_nothing_is_lost_silently(run):
    """Each figure with a picture ends in samples or in a drop; each without one in a drop."""
    workspace, result, _, _ = run
    lost = rows(
        workspace,
        "SELECT f.id FROM figures f WHERE NOT EXISTS (FROM samples s WHERE s.figure_id = f.id) "
        "AND NOT EXISTS (FROM drops d WHERE d.record_id = f.id OR d.record_id LIKE f.id || '%')",
    )
    assert lost == []
    kept = rows(workspace, "SELECT stage, reason, count(*)::INT AS n FROM drops GROUP BY ALL")
    counted = [
        {"stage": stage, "reason": reason, "n": n}
        for stage, reasons in result["drops"].items()
        for reason, n in reasons.items()
    ]
    key = lambda row: (row["stage"], row["reason"])  # noqa: E731
    assert sorted(kept, key=key) == sorted(counted, key=key)


def test_the_web_is_asked_politely(run):
    """No private page, no rate above the one that is set, nobody without a name."""
    _, _, web, _ = run
    log = web.requests()
    assert not [entry for entry in log if entry["path"].startswith("/private")]
    assert all(entry["agent"].startswith("cambrian/") for entry in log)
    times = sorted(entry["time"] for entry in log)
    for start, end in itertools.pairwise([*range(0, len(times), RATE), len(times) - 1]):
        num, seconds = end - start, times[end] - times[start]
        assert num <= RATE * (seconds + 0.25), "more requests than the rate allows"
    paths = Counter(entry["path"] for entry in log if entry["status"] in (200, 404))
    again = {path: n for path, n in paths.items() if n > 1 and not path.startswith("/media/")}
    assert not again, "what was answered is not asked for again"


def test_secrets_stand_nowhere(run):
    workspace, _, _, _ = run
    for path in workspace.root.rglob("*"):
        if path.is_file() and ".prefect" not in path.parts:
            body = path.read_bytes()
            assert not any(s in body for s in (b"sk-secret", b"g-secret", b"b-secret")), path


def test_what_was_asked_and_spent_is_recorded(run):
    workspace, result, _, llm = run
    sent = llm.requests()
    assert result["llm"]["sent"] == len(sent)
    assert result["llm"]["repeated"] == 0
    ok = Counter(entry["key"] for entry in sent if entry["outcome"] == "ok")
    assert max(ok.values()) == 1
    (record,) = read_runs(workspace)
    assert record["status"] == "done" and record["llm"]["sent"] == len(sent)
    calls = rows(workspace, "SELECT count(*) AS n, sum(prompt_tokens) AS tokens FROM llm_calls")
    assert calls[0]["n"] == len(ok) and calls[0]["tokens"] > 0


def test_licences_come_from_the_wiki(runs):
    workspace, _, _, _ = runs["wikipedia"]
    found = rows(
        workspace,
        "SELECT DISTINCT license, author LIKE 'maker of %' AS is_maker, "
        "description_url LIKE '%/wiki/File:%' AS is_described FROM images",
    )
    assert found == [{"license": "CC BY-SA 4.0", "is_maker": True, "is_described": True}]
    pages = rows(workspace, "SELECT revision, page_id FROM pages")
    assert all(page["revision"] and page["page_id"] for page in pages)


def test_the_same_command_again_asks_for_nothing(runs, folder, tmp_path):
    """With the servers gone: everything is in the workspace, and the tables stay as they are."""
    workspace, first, web, llm = runs["wikipedia"]
    environment = {
        "CAMBRIAN_MEDIAWIKI_API": f"{web.address}/w/api.php",
        "OPENAI_API_KEY": "sk-secret",
        "OPENAI_BASE_URL": llm.address,
    }
    options = EngineOptions(
        files=(workspace.root.parent / "topics.txt",),
        search="wikipedia",
        llm="fake-vision",
        allow_private_hosts=True,
    )
    settings = ["http.requests_per_second=99", "search.hits_per_topic=20"]
    again = run_engine(workspace, options, settings=settings, environment=environment)
    assert again["run"] == first["run"] and again["funnel"] == first["funnel"]
    assert again["drops"] == first["drops"]
    assert again["llm"]["sent"] == 0 and again["http"]["requests"] == 0
    calls = "SELECT count(*)::INT AS n FROM llm_calls"
    assert rows(workspace, calls) == [{"n": first["llm"]["requests"]}]
    (workspace.runs / first["run"] / "llm_calls.parquet").unlink()
    again = run_engine(workspace, options, settings=settings, environment=environment)
    assert rows(workspace, calls) == [{"n": first["llm"]["requests"]}]

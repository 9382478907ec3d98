"""Commands as a user types them: results, `--json`, exit codes, messages."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import pytest

from cambrian_data.workspace import Workspace

pytestmark = pytest.mark.slow


def ok(done):
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "curat"], ["curate"]),
        (["data", "engine"], ["--topic"]),
        (["data", "engine", "--topic", "physics"], ["--offline"]),
        (
            ["data", "engine", "--topic", "physics", "--offline", "--recipe", "engine_sience"],
            ["engine_sience", "did you mean 'engine_science'"],
        ),
        (
            ["data", "engine", "--topic", "physics", "--offline", "--llm", "gpt-9"],
            ["gpt-9", "extractive"],
        ),
        (
            ["data", "engine", "--topic", "physics", "--offline", "--set", "images.min_side=3"],
            ["images.min_side", "images.min_side_px"],
        ),
        (["data", "curate"], ["no workspace", "cambrian data engine"]),
        (["data", "ingest", "nothing.jsonl", "--name", "x"], ["nothing.jsonl"]),
        (["data", "ingest", __file__, "--name", "a/b"], ["'a/b'", "letters"]),
        (["data", "ingest", __file__, "--name", "x", "--images", "nowhere"], ["nowhere"]),
        (
            ["data", "ingest", __file__, "--name", "x", "--check-images", "maybe"],
            ["maybe", "decode"],
        ),
        (["data", "ingest", __file__, "--name", "x", "--category", "s="], ["'s='", "SOURCE="]),
        (["data", "ingest", __file__, "--name", "x", "--category", "=c"], ["'=c'", "SOURCE="]),
        (["data", "sql", "SELECT 1"], ["no workspace", "cambrian demo"]),
        (["data", "show", "abcdef"], ["no workspace"]),
        (["data", "report", "tiny"], ["no workspace"]),
        (["data", "verify", "tiny"], ["no shards"]),
        (["data", "extract", "nothing.html"], ["nothing.html"]),
        (["train", "--stage", "finetune"], ["no workspace"]),
        (["train", "--stage", "finetun"], ["no workspace"]),
        (["generate", "what?", "--model", "nowhere"], ["nowhere"]),
        (["demo", "--topic", "zzgrblx"], ["zzgrblx", "Physics"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_mistakes_exit_2_and_say_what_to_do(command, tmp_path, arguments, words):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against-images", "."], "--against-images needs"),
        (["--against-images", "nowhere", "--against", "x"], "'nowhere': there is no folder"),
        (["--shards-to", "s3://bucket/x", "--no-shards"], "--shards-to needs shards"),
    ],
)
def test_options_without_effect_are_refused(command, tmp_path, arguments, words):
    Workspace.create(tmp_path / "workspace")
    done = command("data", "curate", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr


def test_errors_are_json_too(command, tmp_path):
    done = command("data", "curate", "--json", cwd=tmp_path)
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 2 and "no workspace" in answer["error"]
    usage = command("data", "engine", "--json", cwd=tmp_path)
    assert "--topic" in json.loads(usage.stdout)["error"] and usage.returncode == 2


def test_a_workspace_that_cannot_be_made(command, tmp_path):
    (tmp_path / "file").write_text("x")
    done = command("data", "engine", "--topic", "optics", "--offline", "-w", tmp_path / "file")
    assert done.returncode == 2 and "--workspace" in done.stderr


# ------------------------------------------------------------------------------- results


def test_help_and_version(command):
    assert "engine" in ok(command("data", "--help"))
    assert ok(command("--version")).startswith("cambrian ")


def test_doctor(command, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    done = command("doctor", "--json", "-w", tmp_path / "ws")
    found = json.loads(ok(done))
    assert found["keys"]["OPENAI_API_KEY"] is True and found["keys"]["BRAVE_API_KEY"] is False
    assert "sk-secret" not in done.stdout + done.stderr
    assert found["versions"]["duckdb"] and found["devices"]["cpu"].startswith("yes")
    assert not (tmp_path / "ws").exists()


def test_sql_in_every_format(demo, command, tmp_path):
    query = "SELECT category, count(*) AS n FROM mixture_tiny GROUP BY 1 ORDER BY 1"
    rows = json.loads(ok(command("data", "sql", query, "--json", "-w", demo[0], cwd=tmp_path)))
    assert sum(row["n"] for row in rows) == demo[1]["curate"]["samples"]
    csv = ok(command("data", "sql", query, "--format", "csv", "-w", demo[0])).splitlines()
    assert csv[0].replace('"', "") == "category,n" and len(csv) == len(rows) + 1
    assert "category" in ok(command("data", "sql", query, "-w", demo[0]))
    nested = ok(
        command(
            "data",
            "sql",
            "SELECT conversations FROM samples LIMIT 1",
            "--format",
            "csv",
            "-w",
            demo[0],
        )
    )
    assert "gpt" in nested
    wrong = command("data", "sql", "SELECT * FROM mixture_tinny", "-w", demo[0])
    assert wrong.returncode == 2 and "mixture_tiny" in wrong.stderr


def test_sql_writes_parquet_to_a_pipe(demo, tmp_path):
    import subprocess
    import sys

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cli",
            "data",
            "sql",
            "SELECT id FROM samples",
            "--format",
            "parquet",
            "-w",
            str(demo[0]),
        ],
        capture_output=True,
        check=True,
    )
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows > 100


def test_show_tells_a_samples_whole_history(demo, command):
    folder = demo[0]
    query = "SELECT id FROM mixture_tiny WHERE figure_id IS NOT NULL ORDER BY id LIMIT 1"
    (row,) = json.loads(ok(command("data", "sql", query, "--json", "-w", folder)))
    found = json.loads(ok(command("data", "show", row["id"][:12], "--json", "-w", folder)))
    assert found["sample"]["id"] == row["id"]
    assert found["page"]["url"].startswith("https://corpus.invalid/")
    assert found["figure"]["caption"] and found["hits"][0]["query"]
    assert found["mixtures"][0]["mixture"] == "tiny"
    assert found["generator"]["generator"] == "extractive"
    assert (folder / found["pictures"][0]["path"]).is_file()
    missing = command("data", "show", "ffffffffffffffff", "-w", folder)
    assert missing.returncode == 2 and "SELECT id" in missing.stderr


def test_status_and_verify(demo, command):
    status = json.loads(ok(command("data", "status", "--json", "-w", demo[0])))
    assert {run["kind"] for run in status["runs"]} == {"engine", "ingest", "curate", "train"}
    assert all(run["status"] == "done" for run in status["runs"])
    assert status["unfinished"] == []
    assert "every byte" in ok(command("data", "verify", "tiny", "-w", demo[0]))


def test_verify_finds_damage(demo, command, tmp_path):
    import shutil

    folder = tmp_path / "shards"
    shutil.copytree(demo[0] / "shards" / "tiny", folder)
    victim = sorted(folder.glob("*.tar"))[0]
    victim.write_bytes(victim.read_bytes()[:-600])
    done = command("data", "verify", folder)
    assert done.returncode == 1 and victim.name in done.stderr


def test_dry_runs_do_nothing(demo, command, tmp_path):
    plan = json.loads(
        ok(
            command(
                "data",
                "engine",
                "--topic",
                "physics",
                "--offline",
                "--dry-run",
                "--json",
                "-w",
                tmp_path / "ws",
            )
        )
    )
    assert plan["pages"] > 0 and plan["llm"]["cost_usd"] == 0
    assert not list((tmp_path / "ws" / "engine").glob("physics*/samples/*"))
    assert not list((tmp_path / "ws" / "pool").glob("engine*"))
    plan = json.loads(ok(command("data", "curate", "--dry-run", "--json", "-w", demo[0])))
    assert plan["plan"]["size"] == demo[1]["curate"]["samples"]
    plan = json.loads(
        ok(command("train", "--stage", "finetune", "--dry-run", "--json", "-w", demo[0]))
    )
    assert plan["steps"] == demo[1]["train"][1]["steps"]


def test_extract_prints_json_lines(command, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<html><body><h1>T</h1><h2>Lenses</h2><p>Glass bends light.</p><figure><img src='/a.png'>"
        "<figcaption>A lens.</figcaption></figure></body></html>"
    )
    lines = ok(command("data", "extract", page, "--url", "https://example.org/x")).splitlines()
    found = [json.loads(line) for line in lines]
    assert [(f["image_url"], f["caption"], f["section"]) for f in found] == [
        ("https://example.org/a.png", "A lens.", ["Lenses"])
    ]


def test_generate_answers_about_a_picture(demo, command):
    _, result = demo
    answer = result["answer"]
    done = json.loads(
        ok(
            command(
                "generate",
                answer["question"],
                "--image",
                answer["picture"],
                "--model",
                result["where"]["model"],
                "--json",
            )
        )
    )
    assert done["answer"]
    missing = command(
        "generate", "what?", "--image", "nothing.png", "--model", result["where"]["model"]
    )
    assert missing.returncode == 2 and "nothing.png" in missing.stderr


def test_training_again_and_anew(demo, command):
    done = json.loads(
        ok(command("train", "--stage", "finetune", "--resume", "--json", "-w", demo[0]))
    )
    assert done["last_tenth_loss"] == demo[1]["train"][1]["last_tenth_loss"]
    other = command(
        "train", "--stage", "finetune", "--resume", "--set", "finetune.steps=5", "-w", demo[0]
    )
    assert other.returncode == 2 and "another recipe" in other.stderr
    absent = command("train", "--stage", "pretrain", "--runtime", "cuda", "-w", demo[0])
    assert absent.returncode == 2 and "cuda" in absent.stderr

"""Every command that the README and the docs show exists and runs; what they claim is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cambrian_data.curation.ingest.rows import MENDS
from cambrian_data.records import DROP_REASONS
from tests.servers import fake_openai

ENGINE_STAGES = ("topics", "search", "fetch", "extract", "images", "vqa")
REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in REPOSITORY.glob("docs/*.md")}


def shown_commands() -> list[str]:
    """Commands with output that the README shows, in order."""
    return re.findall(r"<!-- run -->\n```console\n\$ (.+)\n", README)


def mentioned_commands() -> list[str]:
    """Commands in the README's indented blocks, up to the words that explain them."""
    lines = re.findall(r"^    (cambrian .+?)(?:   .*)?$", README, re.MULTILINE)
    return [line.strip() for line in lines]


def web_commands() -> list[str]:
    """Commands that need the web and a model."""
    (block,) = re.findall(r"```sh\n(.+?)```", README, re.DOTALL)
    return re.findall(r"^(cambrian .+)$", block, re.MULTILINE)


def run(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(text)
    assert words[0] == "cambrian"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | variables
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_commands_run_in_order_in_a_fresh_folder(tmp_path):
    (tmp_path / "cambrian_data").symlink_to(REPOSITORY / "cambrian_data")
    commands = shown_commands()
    assert len(commands) >= 8
    for text in commands:
        done = run(text, tmp_path)
        assert done.returncode == 0, (text, done.stderr)
        assert done.stdout.strip(), text


@pytest.mark.slow
def test_the_other_commands_run_on_the_demo(demo, command, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<figure><img src='a.png'><figcaption>A lens.</figcaption></figure>")
    query = "SELECT id FROM samples ORDER BY id LIMIT 1"
    sample = command("data", "sql", query, "--format", "csv", "-w", demo[0]).stdout.split()[-1]
    texts = mentioned_commands()
    assert len(texts) >= 6
    for text in texts:
        text = text.replace(" ID", " " + sample.strip('"')).replace("page.html", str(page))
        done = run(f"{text} --workspace {demo[0]}", tmp_path)
        assert done.returncode == 0, (text, done.stderr)


@pytest.mark.slow
def test_the_web_commands_run_on_the_embedded_pages_and_a_model(tmp_path):
    """With the corpus in place of the web, and the reference endpoint in place of the model."""
    with fake_openai(tmp_path / "log") as llm:
        keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": llm.address}
        for text in web_commands():
            text += " --search corpus" if "data engine" in text else ""
            done = run(text, tmp_path, **keys)
            assert done.returncode == 0, (text, done.stderr)
            if "--dry-run" in text:
                assert " USD" in done.stdout and llm.requests() == []
        assert llm.requests()
    assert list(tmp_path.glob("workspace/exports/engine-physics/*.jsonl"))


def test_files_that_are_named_exist():
    for name, text in {"README.md": README, **DOCS}.items():
        folder = REPOSITORY if name == "README.md" else REPOSITORY / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (folder / target).exists(), (name, target)


def test_targets_of_make_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_mend_and_reason_of_ingest_is_documented():
    for word in [*MENDS, *DROP_REASONS["ingest"]]:
        assert f"| `{word}` |" in DOCS["ingest.md"], word


def test_every_reason_of_the_engine_is_explained_with_its_stages():
    explained: dict[str, set[str]] = {}
    for line in DOCS["engine.md"].splitlines():
        if line.startswith("| `"):
            reasons, stages, *_ = line.strip("|").split("|")
            for reason in re.findall(r"`(\w+)`", reasons):
                explained.setdefault(reason, set()).update(re.findall(r"\w+", stages))
    wanted: dict[str, set[str]] = {}
    for stage in ENGINE_STAGES:
        for reason in DROP_REASONS[stage]:
            wanted.setdefault(reason, set()).add(stage)
    assert {reason: explained.get(reason) for reason in wanted} == wanted

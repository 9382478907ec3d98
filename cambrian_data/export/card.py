"""The dataset card of an export: README.md with a YAML header that `datasets` and the Hub read.

It says where the samples come from, under which licences, how they were chosen, and what was left
out. Names from the data are escaped: a source can be called anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from cambrian_data.build import MANIFEST
from cambrian_data.export.folder import Account, Samples
from cambrian_data.report.inputs import files_of, read_json
from cambrian_data.report.tables import Tables
from cambrian_data.report.texts import shorten
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace

PUBLISHED = "https://huggingface.co/datasets/nyu-visionx/Cambrian-10M"
"""Where the sources of Cambrian-10M and their owners are listed."""
_LOADS = {
    "hf": "from datasets import load_dataset\n\ndata = load_dataset(PATH_OF_THIS_FOLDER)",
    "parquet": "import polars\n\ndata = polars.read_parquet('data/*.parquet')",
    "webdataset": "import webdataset\n\n"
    "data = webdataset.WebDataset(urls, shardshuffle=False)  # the tar files of index.json",
}
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_SOURCES = """
SELECT source, category, count(*) AS samples, count(*) FILTER (len(images) = 0) AS text_only,
  list_sort(list(DISTINCT provenance.license)) AS licenses
FROM chosen GROUP BY ALL ORDER BY category, samples DESC, source
"""
_PICTURE_LICENSES = """
WITH licensed AS (SELECT sha256, min(license) AS license FROM images
  WHERE license IS NOT NULL GROUP BY 1)
SELECT source, list_sort(list(DISTINCT license)) AS licenses
FROM (SELECT source, unnest(images).sha256 AS sha256 FROM chosen) JOIN licensed USING (sha256)
GROUP BY 1
"""


def dataset_card(workspace: Workspace, samples: Samples, account: Account, *, to: str) -> str:
    """Return the text of README.md.

    Args:
        to: hf, parquet or webdataset; only hf has a `configs` entry for `load_dataset`.
    """
    parts = {
        "chosen": ("samples", samples.parts),
        "images": ("images", sorted(workspace.images.glob("part-*.parquet"))),
        "drops": ("drops", files_of([samples.folder], "drops")),
    }
    with Tables(workspace, parts) as tables:
        sources = tables.rows(_SOURCES)
        pictures = {row["source"]: row["licenses"] for row in tables.rows(_PICTURE_LICENSES)}
        drops = tables.rows(
            "SELECT stage, reason, count(*) AS rows FROM drops GROUP BY ALL ORDER BY ALL"
        )
    blocks = [
        _header(samples, account, to),
        f"# {_plain(samples.name)}",
        _summary(samples, account),
        "## Use",
        f"```python\n{_LOADS[to]}\n```",
        _COLUMNS[to],
        "## Sources and licences",
        _licence_text(),
        _source_table(sources, pictures),
        *_drop_blocks(samples, account, drops),
        *_recipe_blocks(workspace, samples),
        *_dataset_blocks(workspace, samples),
    ]
    return "\n\n".join(blocks) + "\n"


_COLUMNS = {
    "hf": "`images` is a list of pictures (decoded by `datasets`; empty for text alone), "
    "`conversations` a list of turns with `from` (human, gpt) and `value`, in which `<image>` "
    "stands for the pictures in order; `system` is the system prompt, null where there is none. "
    "`provenance`, `origin`, `original` and `scores` say where a sample comes from.",
    "parquet": "One row a sample: `image` lists the paths of its pictures beside `data/`, "
    "`question` and `answer` are its first turns, `conversations` all of them.",
    "webdataset": "Each sample is `KEY.json` with `KEY.0.jpg`, `KEY.1.png` and so on, its "
    "pictures in order; `index.json` has counts, bytes and sha256 of every file.",
}


def _header(samples: Samples, account: Account, to: str) -> str:
    about: dict[str, Any] = {
        "pretty_name": samples.name,
        "license": "other",
        "license_name": "various",
        "license_link": "#sources-and-licences",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": ["instruction-tuning", "multimodal", "cambrian"],
        "size_categories": [_size_category(account.samples)],
    }
    if to == "hf":
        files = [{"split": "train", "path": "data/train-*.parquet"}]
        about["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---"


def _size_category(number: int) -> str:
    """Return the Hub's name for a range of sizes."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]
    return names[sum(number >= size for size in _SIZES)]


def _summary(samples: Samples, account: Account) -> str:
    what = "a mixture" if samples.kind == "mixture" else "a data set"
    made = (
        f", made by the recipe `{samples.about['recipe']}`" if samples.about.get("recipe") else ""
    )
    text = (
        f"{account.samples:,} samples for training a multimodal language model, {what}{made}; "
        f"{account.text_only:,} of them are text alone."
    )
    if explained := samples.about.get("explained"):
        text += f" The plan: {_plain(str(explained))}."
    if account.left_out:
        text += (
            f" {account.left_out:,} samples were left out of this export since a picture is lost; "
            "`export.json` names them."
        )
    return text


def _licence_text() -> str:
    return (
        "No licence covers the whole: each source stays under its own. Where a licence is stated "
        "it was recorded with the page or picture that a sample comes from. *As published* means "
        "that nothing was recorded: the terms are those under which the owners of the source "
        f"published it. The sources of Cambrian-10M are listed at {PUBLISHED}. Look the terms up "
        "before you pass the data on."
    )


def _source_table(
    sources: Sequence[Mapping[str, Any]], pictures: Mapping[str, Sequence[str]]
) -> str:
    rows = [
        (
            _plain(row["source"]),
            _plain(row["category"]),
            f"{row['samples']:,}",
            f"{row['text_only']:,}",
            _licenses(row["licenses"]),
            _licenses(pictures.get(row["source"], ()))
            if row["samples"] > row["text_only"]
            else "-",
        )
        for row in sources
    ]
    columns = ("source", "category", "samples", "text alone", "licence", "licence of pictures")
    return _table(columns, rows)


def _licenses(names: Iterable[str | None]) -> str:
    stated = [shorten(name, 60) for name in names if name]
    more = f" and {len(stated) - 4} more" if len(stated) > 4 else ""
    return _plain("; ".join(stated[:4]) + more) or "as published by its owners"


def _drop_blocks(
    samples: Samples, account: Account, drops: Sequence[Mapping[str, Any]]
) -> list[str]:
    flow = samples.about.get("flow") or []
    if not flow and not drops:
        return []
    blocks = ["## How it was filtered"]
    if flow:
        rows = [(row["stage"], f"{row['in']:,}", f"{row['out']:,}") for row in flow]
        blocks.append(_table(("stage", "rows in", "rows out"), rows))
    if drops:
        rows = [(row["stage"], row["reason"], f"{row['rows']:,}") for row in drops]
        blocks.append(_table(("stage", "reason", "rows dropped"), rows))
    return blocks


def _recipe_blocks(workspace: Workspace, samples: Samples) -> list[str]:
    if samples.kind != "mixture":
        return []
    config = samples.about.get("config") or recorded_recipe(workspace, samples.name)
    if not config:
        return ["## Recipe", "The recipe was not recorded with this mixture."]
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    # A fence longer than any in the recipe: its prompts may hold one themselves.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return ["## Recipe", f"{fence}yaml\n{text}{fence}"]


def recorded_recipe(workspace: Workspace, mixture: str) -> dict[str, Any] | None:
    """Return the recipe that the newest run of a mixture recorded, in full."""
    made = [
        run
        for run in sorted(read_runs(workspace), key=lambda run: (run["started_at"], run["run"]))
        if run["kind"] == "curate"
        and run["status"] == "done"
        and run["outputs"].get("name") == mixture
    ]
    return (made[-1].get("recipe") or None) if made else None


def _dataset_blocks(workspace: Workspace, samples: Samples) -> list[str]:
    """Return what is known of how the data sets behind the samples were made."""
    names = samples.about.get("datasets") or [samples.name]
    rows = []
    for name in names:
        about = (read_json(workspace.pool(name) / MANIFEST) or {}).get("about", {})
        made = {"engine": "the data engine", "ingest": "read from a published file"}
        rows.append(
            (
                _plain(name),
                made.get(str(about.get("made_by")), "not recorded"),
                f"{about['samples']:,}" if "samples" in about else "no longer in the pool",
            )
        )
    return ["## Data sets behind it", _table(("data set", "made by", "samples"), rows)]


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text that stays one line of text in Markdown, whatever signs it has."""
    line = " ".join(shorten(text, 300).split())
    return re.sub(r"([\\`*_{}\[\]<>|#&])", r"\\\1", line)

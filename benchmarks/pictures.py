"""The verdict on every picture of a folder, as a Markdown table, with time and peak memory.

    python -m benchmarks.pictures ../shared/webdata/images [--min-side-px 64]

Files are read in one process, as a run does. What a file is comes from the MANIFEST.json beside
the folder where there is one. `docs/pictures.md` holds what it printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cambrian_data.engine.images import ImagesConfig, PictureError, decode_picture

_MAX_DETAIL_CHARS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one file."""

    file: str
    outcome: str
    """`kept`, or the reason for which it was dropped."""
    detail: str
    """Format and size of what is kept, or why it was dropped."""
    seconds: float


def verdict_of(path: Path, name: str, config: ImagesConfig) -> Verdict:
    """Try to keep one file."""
    start = time.perf_counter()
    try:
        picture = decode_picture(path.read_bytes(), config)
        outcome = "kept"
        detail = f"{picture.format} {picture.width} x {picture.height}, as {picture.suffix}"
    except PictureError as error:
        outcome, detail = error.reason, error.detail
    return Verdict(file=name, outcome=outcome, detail=detail, seconds=time.perf_counter() - start)


def verdicts_of(folder: Path, config: ImagesConfig) -> list[Verdict]:
    """Try to keep every file of a folder, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [verdict_of(path, path.relative_to(folder).as_posix(), config) for path in files]


def descriptions(folder: Path) -> dict[str, str]:
    """Return what the manifest beside a folder says of its files, by their name in it."""
    manifest = folder.parent / "MANIFEST.json"
    if not manifest.is_file():
        return {}
    entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    prefix = f"{folder.name}/"
    return {
        entry["file"].removeprefix(prefix): entry.get("description", "")
        for entry in entries
        if entry["file"].startswith(prefix)
    }


def peak_mib() -> int:
    """Return the peak memory of this process, or of the largest one it started, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) // unit


def markdown(verdicts: Sequence[Verdict], about: dict[str, str]) -> str:
    """Return the table."""
    lines = ["| file | what it is | verdict | |", "|---|---|---|---|"]
    for one in verdicts:
        detail = textwrap.shorten(one.detail, _MAX_DETAIL_CHARS, placeholder=" ...")
        cells = (f"`{one.file}`", about.get(one.file, ""), one.outcome, detail)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    plain = text.encode("ascii", "replace").decode()
    return " ".join(plain.replace("|", "\\|").replace("<", "&lt;").split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and the measurements."""
    parser = argparse.ArgumentParser(description="verdicts on the pictures of a folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--min-side-px", type=int, default=ImagesConfig().min_side_px)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    verdicts = verdicts_of(options.folder, ImagesConfig(min_side_px=options.min_side_px))
    seconds = time.perf_counter() - start
    slowest = max(verdicts, key=lambda one: one.seconds)
    counts = Counter(one.outcome for one in verdicts)
    print(markdown(verdicts, descriptions(options.folder)))
    print()
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(
        f"{len(verdicts)} files in {seconds:.1f} s, the slowest {slowest.file} with "
        f"{slowest.seconds:.2f} s; peak memory {peak_mib()} MiB"
    )


if __name__ == "__main__":
    main()

"""Command line: `python -m tools.draw_corpus [--check]`.

Without a flag every picture is drawn and written. `--check` writes nothing: it draws, decodes
both and exits 1 when a picture is missing or its pixels differ by more than small changes of a
library explain.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.draw_corpus.compare import find_difference
from tools.draw_corpus.gallery import IMAGES, INSTRUCTION_IMAGES, all_pictures


def write_pictures() -> int:
    """Draw every picture into its folder; the exit status."""
    for folder, name, draw in all_pictures():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw())
    return 0


def check_pictures() -> int:
    """Name the pictures that differ from what is committed; the exit status."""
    differences = []
    expected: set[Path] = set()
    for folder, name, draw in all_pictures():
        path = folder / name
        expected.add(path)
        difference = find_difference(path, draw())
        if difference:
            differences.append(f"{name}: {difference}")
    for folder in (IMAGES, INSTRUCTION_IMAGES):
        stray = {path for path in folder.rglob("*") if path.is_file()} - expected
        differences += [f"{path.name}: nothing draws it" for path in sorted(stray)]
    for line in differences:
        print(line)
    print(f"{len(expected)} pictures, {len(differences)} differences")
    return 1 if differences else 0


def main() -> int:
    """Read the flags and draw or check."""
    parser = argparse.ArgumentParser(prog="python -m tools.draw_corpus", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return check_pictures() if parser.parse_args().check else write_pictures()


if __name__ == "__main__":
    sys.exit(main())

"""The data engine measured: extraction, calls to a language model, cached pages.

    python -m benchmarks.engine [--only extraction,llm,http] [--json FILE]

Everything runs on this machine, without a network. What is compared runs in turns in one process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_PARTS = ("extraction", "llm", "http")


def measure(part: str, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Run one part; return its numbers, and the numbers as text."""
    if part == "extraction":
        from benchmarks import extraction

        found = extraction.measure(extraction.saved_pages(options.pages), options.rounds)
        return found, extraction.show(found)
    if part == "http":
        from benchmarks import cached_gets

        found = cached_gets.measure(options.gets)
        return found, cached_gets.show(found)
    from benchmarks import llm_calls

    if not options.fake_openai.is_file():
        return {}, f"llm: there is no test server {options.fake_openai}; name it: --fake-openai"
    found = llm_calls.measure(
        options.fake_openai,
        num_calls=options.calls,
        max_open=options.open,
        latency_s=options.latency,
        rounds=options.rounds,
    )
    return found, llm_calls.show(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description="measure the data engine")
    parser.add_argument("--only", default=",".join(_PARTS), help="parts, with commas between")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=Path, default=_SHARED / "webdata")
    parser.add_argument("--fake-openai", type=Path, default=_SHARED / "tools" / "fake_openai.py")
    parser.add_argument("--calls", type=int, default=1280)
    parser.add_argument("--open", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--gets", type=int, default=2000)
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(_PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]!r}: known are {', '.join(_PARTS)}")
    numbers = {}
    for part in wanted:
        numbers[part], text = measure(part, options)
        print(text, flush=True)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

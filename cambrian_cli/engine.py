"""`cambrian data engine`: one run, a plan of it, or runs on a schedule."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cambrian_cli import output
from cambrian_cli.start import open_workspace
from cambrian_data.engine.options import EngineOptions
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.services import check_options
from cambrian_data.recipes import load_recipe
from cambrian_data.records import RunFailed, UserError
from cambrian_data.workspace import utc_now

MAX_OUTCOMES_SHOWN = 15
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def start_engine(
    path: Path, options: EngineOptions, *, every: str | None, **arguments: Any
) -> None:
    """Run the engine once or on a schedule and print what came of it."""
    interval_s = None if every is None else seconds_of(every)
    if interval_s is not None and arguments["dry_run"]:
        raise UserError("--every and --dry-run do not go together: leave one of them out")
    check_options(options, os.environ)
    load_recipe(arguments["recipe"], "data", EngineRecipe, arguments["settings"])
    _ask_for_contact(options, arguments["settings"])
    if interval_s is None:
        run_once(path, options, **arguments)
    else:
        run_every(path, interval_s, options, **arguments)


def run_once(path: Path, options: EngineOptions, **arguments: Any) -> None:
    """Run the engine, or plan a run, and print the numbers."""
    workspace = open_workspace(path)
    from flows.engine import run_engine

    with output.Show() as progress:
        result = run_engine(workspace, options, progress=progress, **arguments)
    if output.wants_json:
        output.emit_json(result)
    elif arguments["dry_run"]:
        show_plan(result)
    else:
        show_result(result)


def run_every(path: Path, interval_s: float, options: EngineOptions, **arguments: Any) -> None:
    """Run again and again; each run asks anew for what was fetched before its turn.

    A run that fails is told and tried again at the next turn; a mistake in the command ends it.
    """
    due = time.time()
    while True:
        output.err.print(f"run of {utc_now()}")
        try:
            run_once(path, replace(options, refresh_from=utc_now()), **arguments)
        except RunFailed as error:
            output.err.print(f"this run failed: {error}", markup=False)
        due = max(due + interval_s, time.time())
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due))
        output.err.print(f"next run at {at}; Ctrl-C ends the schedule")
        time.sleep(max(0.0, due - time.time()))


def seconds_of(text: str) -> float:
    """Return the length of `30m`, `12h`, `1d`.

    Raises:
        UserError: it is none, or shorter than a second.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds < 1:
        raise UserError(f"--every {text!r}: write a number and s, m, h, d or w, such as 12h or 1d")
    return seconds


def _ask_for_contact(options: EngineOptions, settings: Sequence[str]) -> None:
    """Ask a person at a terminal, once, who web sites may turn to; others are told in an error."""
    is_set = os.environ.get("CAMBRIAN_CONTACT") or any(
        setting.startswith("http.contact=") for setting in settings
    )
    is_local = options.offline or options.search == "corpus"
    if is_set or is_local or not (sys.stdin.isatty() and output.err.is_terminal):
        return
    output.err.print(
        "Web sites should be able to reach whoever reads them by program. A mail or web address "
        "to send along (kept in CAMBRIAN_CONTACT, it is not asked for again):"
    )
    os.environ["CAMBRIAN_CONTACT"] = sys.stdin.readline().strip()


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what a run would ask the LLM."""
    names = ("topics", "hits", "pages", "figures", "pictures", "writer")
    output.fields({name: plan[name] for name in names})
    llm = plan["llm"]
    if not llm["calls"] and not llm["in_ledger"]:
        output.out.print("nothing is left to ask an LLM: the run costs nothing")
        return
    output.fields(
        {
            "calls": f"{llm['calls']:,}",
            "answers in the ledger": f"{llm['in_ledger']:,}",
            "prompt tokens": f"{llm['prompt_tokens']:,}",
            "answer tokens": f"{llm['completion_tokens']:,} "
            f"(at most {llm['completion_tokens_at_most']:,})",
            "cost": _usd(llm["cost_usd"])
            if llm["cost_usd"] is None
            else f"{_usd(llm['cost_usd'])} (at most {_usd(llm['cost_usd_at_most'])})",
        }
    )
    if not plan["topics_are_final"]:
        output.out.print(
            "\nThe LLM would be asked for topics first; these numbers are for the topics as you "
            "named them, and expanded ones will be many times as many: --limit bounds the pages."
        )


def show_result(result: Mapping[str, Any]) -> None:
    """Print the funnel, drops, outcomes and spending of a run, and what to do next."""
    show_funnel(result)
    if "llm" in result:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in result["kinds"].items())
        output.out.print(f"\nquestions by kind: {kinds or 'none'}")
    if "http" in result:
        show_outcomes(result["outcomes"])
    if llm := result.get("llm"):
        show_spend(llm)
    left = result["left_by_budget"]
    if left:
        output.out.print(
            f"\nstopped at {_usd(result['llm']['cost_usd'])}, before a call that might pass the "
            f"budget; {left:,} figures (or fields) are left: the same command with a new "
            "--budget-usd goes on, and pays nothing twice"
        )
    if result["to_try_again"]:
        output.out.print(
            f"\n{result['to_try_again']:,} addresses or calls failed in a way that may pass: the "
            "same command tries them again"
        )
    output.out.print(
        f"\nin the pool as [bold]{result['dataset']}[/]; next: "
        "[bold]cambrian data curate --recipe tiny[/]"
    )


def show_funnel(result: Mapping[str, Any]) -> None:
    """Print what came out of each stage of the engine, and drops by reason."""
    output.table("", ["stage", "rows"], result["funnel"].items())
    output.drops(result["drops"])


def show_outcomes(outcomes: list[Mapping[str, Any]]) -> None:
    """Print what became of pages and pictures, by host."""
    rows = [(row["host"], row["stage"], row["outcome"], row["count"]) for row in outcomes]
    output.out.print()
    output.table("", ["host", "stage", "outcome", "rows"], rows[:MAX_OUTCOMES_SHOWN])
    if len(rows) > MAX_OUTCOMES_SHOWN:
        more = len(rows) - MAX_OUTCOMES_SHOWN
        output.out.print(f"and {more} more, in the run's record under runs/")


def show_spend(llm: Mapping[str, Any]) -> None:
    """Print calls, tokens and cost."""
    output.out.print("\n[bold cyan]LLM[/]")
    answers = ", ".join(f"{outcome} {count:,}" for outcome, count in llm["answers"].items())
    output.fields(
        {
            "requests": f"{llm['requests']:,}, {llm['from_ledger']:,} answered from the ledger",
            "sent": f"{llm['sent']:,}, {llm['retries']:,} of them retries, "
            f"{llm['repeated']:,} repeats of calls that a kill left open",
            "answers": answers or "none",
            "tokens": f"{llm['prompt_tokens']:,} in, {llm['completion_tokens']:,} out",
            "cost": _usd(llm["cost_usd"]),
            "cost of the run's calls, earlier ones too": _usd(llm["run_cost_usd"]),
        }
    )


def _usd(amount: float | None) -> str:
    return (
        "unknown: no price for this model; write one into prices.yaml in the workspace"
        if amount is None
        else f"{amount:.4f} USD"
    )

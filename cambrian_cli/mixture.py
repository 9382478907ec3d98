"""What curation shows: rows through the stages, the plan, a sweep, the shards, two mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from cambrian_cli import output

MAX_ALARMS = 10


def show_mixture(result: Mapping[str, Any]) -> None:
    """Print the rows through curation, the plan, and the shards."""
    output.table(
        "",
        ["stage", "in", "out", "dropped"],
        [(s["stage"], s["in"], s["out"], _counts(s["drops"])) for s in result["flow"]],
    )
    output.out.print()
    _show_plan(result["plan"])
    output.out.print(f"\n{output.plain(result['explained'])}", markup=False)
    for alarm in result["alarms"][:MAX_ALARMS]:
        output.err.print(
            f"[bold]{escape(output.short(alarm['source']))} lost {alarm['lost']:,} of "
            f"{alarm['have']:,} samples to "
            f"duplicates[/] ({alarm['share']:.0%}, the recipe's dedup.alarm_share is "
            f"{alarm['limit']:.0%}): look at them with `cambrian data report {result['name']}`"
        )
    if sweep := result.get("sweep"):
        _show_sweep(sweep, result["sweep_folder"])
    if stale := result.get("stale_shards"):
        output.err.print(f"[bold]{stale} was made from an earlier mixture of this name[/]")
    if shards := result.get("shards"):
        _show_shards(shards)


def _counts(drops: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in drops.items())


def _show_plan(plan: Mapping[str, Any]) -> None:
    """Print every category and below it its sources: what they have, may give and give."""
    rows: list[tuple[Any, ...]] = []
    for category in plan["categories"]:
        rows.append(
            (
                output.short(category["category"]),
                "",
                category["have"],
                category["available"],
                category["take"],
                f"{category['ratio_wanted']:.2%}",
                f"{category['ratio_got']:.2%}",
                "binds" if category["category"] == plan["binding"] else "",
            )
        )
        rows += [
            ("", output.short(s["source"]), s["have"], s["cap"], s["take"], "", "", _limit(s))
            for s in plan["sources"]
            if s["category"] == category["category"]
        ]
    columns = ["category", "source", "have", "cap", "take", "wanted", "got", ""]
    output.table("", columns, rows)


def _limit(source: Mapping[str, Any]) -> str:
    if source["take"] > source["have"]:
        return "repeated"
    if source["take"] and source["take"] == source["have"]:
        return "all"
    return "at its cap" if source["take"] and source["take"] == source["cap"] else ""


def _show_sweep(rows: list[dict[str, Any]], folder: str) -> None:
    """Print one row a plan of a sweep."""
    shares = sorted({name for row in rows for name in row if name.startswith("ratio.")})
    output.out.print()
    output.table(
        "",
        [
            "plan",
            "size",
            "binds",
            "slip",
            *(output.short(name.removeprefix("ratio.")) for name in shares),
        ],
        [
            (
                row["label"],
                row["size"],
                output.short(row["binding"] or row["binds"]),
                f"{row['slip']:.2%}",
                *(f"{row.get(name, 0):.2%}" for name in shares),
            )
            for row in rows
        ],
    )
    output.out.print(f"\nThe plans and this comparison lie in [bold]{folder}[/]")


def _show_shards(shards: Mapping[str, Any]) -> None:
    output.out.print(
        f"\n{shards['samples']:,} samples with {shards['pictures']:,} pictures in "
        f"{shards['shards']} shard(s), {shards['bytes']:,} bytes, verified: "
        f"[bold]{shards['folder']}[/]"
    )
    if shards["dropped"]:
        output.err.print(
            f"[bold]{shards['dropped']:,} samples were left out of the shards[/]: their "
            f"pictures are missing or damaged (listed in {shards['folder']}/index.json)"
        )
    if shards["left_over"]:
        output.err.print(
            f"{shards['left_over']:,} samples were left over, so that all ranks get as many "
            f"(listed in {shards['folder']}/index.json)"
        )
    if "sent_to" in shards:
        output.out.print(
            f"{shards['sent']} shard(s) sent to [bold]{shards['sent_to']}[/], "
            f"{shards['already_there']} were there already"
        )

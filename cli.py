"""The command line: parse, make one call, draw progress and results.

The only place, with `cambrian_cli`, that imports typer and rich. Heavy imports stand inside the
commands, so that `cambrian --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cambrian_cli import ask, options, output

app = typer.Typer(
    name="cambrian",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Data for multimodal language models: from a topic to a mixture, shards and a model.",
)
data = typer.Typer(no_args_is_help=True, help="Make, check, balance and look at data.")
app.add_typer(data, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        from cambrian_data import __version__

        output.out.print(f"cambrian {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    pass


Recipe = Annotated[str, typer.Option(help="A recipe's name, or a path to a YAML file.")]
Name = Annotated[str | None, typer.Option(help="Name of the result; by default a fitting one.")]


@app.command()
def demo(
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    topic: Annotated[str, typer.Option(help="A topic of the corpus.")] = "physics",
    json: options.Json = False,
) -> None:
    """The whole way, offline, on the embedded corpus: topic, data, mixture, training, answer."""
    from cambrian_cli.flows import start_demo

    start_demo(workspace, topic=topic)


@app.command()
def doctor(
    workspace: options.Workspace = options.DEFAULT_WORKSPACE, json: options.Json = False
) -> None:
    """Versions, devices, keys that are set (never their values), workspace, network."""
    from cambrian_cli.doctor import show_doctor

    show_doctor(workspace)


@data.command()
def engine(
    topic: options.Topic = None,
    fields: options.Fields = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    recipe: Recipe = "engine_science",
    search: options.Search = "auto",
    llm: options.Llm = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Embedded corpus, no LLM.")] = False,
    allow_private_hosts: options.PrivateHosts = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask again for what was fetched before today.")
    ] = False,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="What this run may spend on the LLM.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="1d", help="Run again every 30m, 12h, 1d ...: a schedule.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fetch at most N pages.")] = None,
    name: Name = None,
    settings: options.Settings = None,
    runner: options.Runner = "threads",
    workers: options.Workers = None,
    dry_run: options.DryRead = False,
    json: options.Json = False,
) -> None:
    """Topic -> search -> pages -> figures -> questions and answers -> pool."""
    from cambrian_cli.engine import start_engine
    from cambrian_data.engine.options import EngineOptions

    asked = EngineOptions(
        topic=topic,
        files=tuple(fields or ()),
        search=search,
        llm=llm,
        offline=offline,
        allow_private_hosts=allow_private_hosts,
        refresh=refresh,
        budget_usd=budget_usd,
        limit=limit,
        dataset=name,
    )
    start_engine(
        workspace,
        asked,
        every=every,
        recipe=recipe,
        settings=settings or [],
        runner=runner,
        workers=workers,
        dry_run=dry_run,
    )


@data.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="JSON, JSONL, Parquet, tar files, or a folder.")],
    name: Annotated[str, typer.Option(help="Name of the data set in the pool.")],
    images: options.Pictures = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    check_images: Annotated[str, typer.Option(help="none, exists or decode.")] = "decode",
    recipe: options.IngestRecipe = None,
    category: options.Category = None,
    strict: Annotated[bool, typer.Option(help="An unknown source is an error.")] = False,
    replace: options.Replace = False,
    allow_private_hosts: options.PrivateHosts = False,
    workers: options.Workers = None,
    json: options.Json = False,
) -> None:
    """Take published instruction data into the pool, every row checked."""
    from cambrian_cli.data import start_ingest

    start_ingest(
        workspace,
        category or [],
        recipe,
        file=path,
        name=name,
        images=images,
        check_images=check_images,
        strict=strict,
        replace=replace,
        allow_private_hosts=allow_private_hosts,
        workers=workers,
    )


@data.command()
def curate(
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    recipe: Recipe = "tiny",
    name: Name = None,
    against: options.Against = None,
    against_images: options.AgainstImages = None,
    sweep: options.Sweep = None,
    no_shards: Annotated[bool, typer.Option("--no-shards", help="The mixture alone.")] = False,
    shards_to: options.ShardsTo = None,
    settings: options.Settings = None,
    runner: options.Runner = "threads",
    address: options.Address = None,
    workers: options.Workers = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Pool -> rules -> duplicates out -> cap and balance -> system prompts -> mixture -> shards."""
    from cambrian_cli.flows import start_curate

    start_curate(
        workspace,
        dry_run=dry_run,
        sweep=sweep or [],
        settings=settings or [],
        recipe=recipe,
        name=name,
        against=against or [],
        against_images=against_images,
        with_shards=not no_shards,
        shards_to=shards_to,
        runner=runner,
        address=address,
        workers=workers,
    )


@data.command()
def extract(
    page: Annotated[str, typer.Argument(help="HTML file, MediaWiki's JSON answer, or address.")],
    url: Annotated[str, typer.Option(help="The page's address, for relative links.")] = "",
    allow_private_hosts: options.PrivateHosts = False,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Figures of one page as JSON lines: image_url, caption, section, text."""
    from cambrian_cli.extract import show_figures

    show_figures(workspace, page, url, allow_private_hosts=allow_private_hosts)


@data.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One query; none opens a prompt.")] = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    format: Annotated[str, typer.Option(help="table, csv, json or parquet.")] = "table",
    json: options.Json = False,
) -> None:
    """SQL over every row: samples, figures, pages, drops, mixture_<name> ..."""
    from cambrian_cli.data import run_sql

    run_sql(workspace, query, "json" if json else format)


@data.command()
def report(
    name: Annotated[str, typer.Argument(help="A mixture's name.")],
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """One HTML page and one JSON on a mixture: numbers, plots, drops, samples."""
    from cambrian_cli.data import make_report

    make_report(workspace, name)


@data.command()
def status(
    workspace: options.Workspace = options.DEFAULT_WORKSPACE, json: options.Json = False
) -> None:
    """What is done, what is left, disk."""
    from cambrian_cli.data import show_status

    show_status(workspace)


@data.command()
def show(
    sample: Annotated[str, typer.Argument(help="A sample's id, or its first characters.")],
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """One sample with its picture's path and its whole history."""
    from cambrian_cli.data import show_sample

    show_sample(workspace, sample)


@data.command()
def verify(
    shards: Annotated[str, typer.Argument(help="A mixture's name, or a folder of shards.")],
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Read shards back and compare every byte with their index."""
    from cambrian_cli.data import verify_folder

    verify_folder(workspace, shards)


@data.command()
def export(
    name: Annotated[str, typer.Argument(help="A data set of the pool, or a mixture.")],
    to: Annotated[str, typer.Option(help="llava, hf, parquet or webdataset.")] = "llava",
    out: Annotated[Path | None, typer.Option(help="Folder; by default in the workspace.")] = None,
    kind: Annotated[
        str | None, typer.Option("--from", help="pool or mixture, where both have the name.")
    ] = None,
    images: Annotated[str, typer.Option(help="copy, link or none.")] = "copy",
    system: options.SystemPrompt = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Samples with their pictures in the shape of other tools; hf comes with a dataset card."""
    from cambrian_cli.data import start_export

    start_export(workspace, name, kind=kind, to=to, out=out, images=images, system=system)


@data.command()
def diff(
    a: Annotated[str, typer.Argument(help="A mixture's name.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """In what two mixtures differ: counts, samples, reasons, recipes."""
    from cambrian_cli.data import show_diff

    show_diff(workspace, a, b)


@app.command()
def train(
    stage: Annotated[str, typer.Option(help="pretrain or finetune.")],
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    recipe: Recipe = "tiny",
    shards: Annotated[
        str | None, typer.Option(help="A mixture's name, a folder or an address.")
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Checkpoint to start from.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="cpu, cuda, mps or xla.")] = "cpu",
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Go on from the newest checkpoint, or start anew; default: the same run goes on.",
            show_default=False,
        ),
    ] = None,
    settings: options.Settings = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train a stage of the model on shards."""
    from cambrian_cli.flows import start_train

    start_train(
        workspace,
        dry_run=dry_run,
        stage=stage,
        recipe=recipe,
        settings=settings or [],
        shards=shards,
        start_from=start_from,
        runtime=runtime,
        resume=resume,
    )


app.command()(ask.generate)
app.command()(ask.chat)


def main() -> None:
    """Run the command line; turn errors into a message and an exit code."""
    code = run(sys.argv[1:])
    # What is left is to end helpers; broken off there, Python prints a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 the user's mistake."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    output.set_up_logging()
    output.set_json("--json" in arguments)
    try:
        code = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return output.explain(output.Interrupted())
    except Exception as error:  # noqa: BLE001 - the last border: each becomes a message
        return output.explain(error)
    if code == output.EXIT_INTERRUPTED:  # typer makes this of a Ctrl-C that met it elsewhere
        return output.explain(output.Interrupted())
    return int(code or 0)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()

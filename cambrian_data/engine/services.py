"""What an engine run talks to: search backend, fetcher, question writer, HTTP, LLM.

Chosen by what the user asked for and which keys are set; opened once a run and passed in. The
embedded corpus and the extractive writer need neither network nor key.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.fetch import CorpusFetcher, Fetcher
from cambrian_data.engine.options import EngineOptions
from cambrian_data.engine.reading import PictureKeeper
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.search import (
    SearchBackend,
    backend_name,
    choose_backend,
    mediawiki_api,
    service_addresses,
)
from cambrian_data.engine.vqa import ExtractiveWriter, LlmWriter, Writer
from cambrian_data.engine.web_fetch import WebFetcher
from cambrian_data.engine.wiki import Wikis
from cambrian_data.llm.ledger import Ledger
from cambrian_data.llm.prices import load_prices
from cambrian_data.records import Progress, UserError, content_id, silent
from cambrian_data.web.cache import HttpCache
from cambrian_data.web.http import HttpClient
from cambrian_data.workspace import HTTP_CACHE, Workspace, check_name

if TYPE_CHECKING:
    from cambrian_data.llm.client import LlmClient

EXTRACTIVE = "extractive"
_WIKI = "CAMBRIAN_MEDIAWIKI_API"
_LLM_NAMES = ("CAMBRIAN_LLM", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineServices:
    """The services of one run."""

    backend: SearchBackend
    fetcher: Fetcher
    pictures: PictureKeeper
    writer: Writer
    identity: str
    """Hash of what a run's output depends on here: backend, writer, and where they ask."""
    cache: HttpCache | None = None
    http: HttpClient | None = None
    llm: LlmClient | None = None
    interrupted: threading.Event = field(default_factory=threading.Event)
    """Set once the run is to end: what comes back from the services then says nothing."""

    def interrupt(self) -> None:
        """End all waits, open connections and calls, so that threads at work come to an end."""
        self.interrupted.set()
        if self.llm:
            self.llm.close()
        if self.http:
            self.http.close()

    def close(self) -> None:
        """Close everything, once no thread is at work any more."""
        self.interrupt()
        if self.cache:
            self.cache.close()


@contextlib.contextmanager
def open_services(
    workspace: Workspace,
    recipe: EngineRecipe,
    options: EngineOptions,
    environment: Mapping[str, str],
    progress: Progress = silent,
) -> Iterator[EngineServices]:
    """Open the services of a run and close them after it.

    Args:
        workspace: keeps ledger, cache and pictures.
        recipe: the run's recipe.
        options: what the user said beside it.
        environment: where keys and addresses stand, such as `os.environ`.
        progress: told of calls, tokens and cost while the LLM is asked.
    Raises:
        UserError: a key, an address or the contact is missing, or a name is unknown.
    """
    _check(options)
    with contextlib.ExitStack() as stack:
        llm = _open_llm(workspace, recipe, options, environment, stack, progress)
        writer = _writer(workspace, recipe, llm)
        if options.offline or options.search == "corpus":
            services = _corpus_services(workspace, recipe, writer, llm)
        else:
            services = _web_services(workspace, recipe, options, environment, writer, llm)
        stack.callback(services.close)
        yield services


def check_options(options: EngineOptions, environment: Mapping[str, str]) -> None:
    """Find mistakes in a command that need nobody to be asked.

    Raises:
        UserError: as `open_services`, where that is known beforehand.
    """
    options.wanted()
    check_name(options.dataset_name)
    _check(options)
    if not options.offline:
        backend_name(options.search, environment)


def _check(options: EngineOptions) -> None:
    if not options.offline:
        return
    if options.search not in ("auto", "corpus"):
        raise UserError(
            f"--search {options.search} needs the web: leave --offline out, or use --search corpus"
        )
    if options.llm not in ("auto", EXTRACTIVE):
        raise UserError(
            f"--llm {options.llm} needs a server: leave --offline out (--search corpus keeps to "
            f"the embedded pages), or use --llm {EXTRACTIVE}"
        )


def _corpus_services(
    workspace: Workspace, recipe: EngineRecipe, writer: Writer, llm: LlmClient | None
) -> EngineServices:
    corpus = load_corpus()
    fetcher = CorpusFetcher(corpus)
    backend = choose_backend("corpus", {}, recipe.search, None, corpus)
    return EngineServices(
        backend=backend,
        fetcher=fetcher,
        pictures=PictureKeeper(workspace, fetcher, recipe.images),
        writer=writer,
        identity=content_id(backend.name, corpus.sha256, _writer_identity(writer, llm)),
        llm=llm,
    )


def _web_services(
    workspace: Workspace,
    recipe: EngineRecipe,
    options: EngineOptions,
    environment: Mapping[str, str],
    writer: Writer,
    llm: LlmClient | None,
) -> EngineServices:
    addresses = service_addresses(options.search, environment, recipe.search)
    cache, http, fetcher = _open_web(workspace.root, recipe, options, environment, addresses)
    try:
        for address in addresses:
            http.check_contact(address)
    except UserError as error:
        raise UserError(f"{error}; or use --offline, which reads the embedded pages") from None
    backend = choose_backend(options.search, environment, recipe.search, http, None)
    return EngineServices(
        backend=backend,
        fetcher=fetcher,
        pictures=PictureKeeper(
            workspace, fetcher, recipe.images, cache, refresh_since=options.refresh_since
        ),
        writer=writer,
        identity=content_id(
            backend.name, addresses, environment.get(_WIKI), _writer_identity(writer, llm)
        ),
        cache=cache,
        http=http,
        llm=llm,
    )


@contextlib.contextmanager
def open_fetcher(
    folder: Path, environment: Mapping[str, str], *, allow_private_hosts: bool
) -> Iterator[Fetcher]:
    """Open a fetcher alone, with its cache in a folder.

    Raises:
        UserError: no contact is set.
    """
    options = EngineOptions(allow_private_hosts=allow_private_hosts)
    cache, http, fetcher = _open_web(folder, EngineRecipe(), options, environment, [])
    with contextlib.closing(cache), contextlib.closing(http):
        yield fetcher


def _open_web(
    folder: Path,
    recipe: EngineRecipe,
    options: EngineOptions,
    environment: Mapping[str, str],
    addresses: Sequence[str],
) -> tuple[HttpCache, HttpClient, Fetcher]:
    """Open cache, client and fetcher; services that the user named may be on private hosts."""
    wiki_api = mediawiki_api(environment) if environment.get(_WIKI) else None
    named = [*addresses, *([wiki_api] if wiki_api else [])]
    contact = recipe.http.contact or environment.get("CAMBRIAN_CONTACT", "")
    config = recipe.http.model_copy(update={"contact": contact})
    cache = HttpCache(folder / HTTP_CACHE, max_bytes=config.cache_max_bytes)
    http = HttpClient(
        config,
        cache,
        allow_private=options.allow_private_hosts,
        refresh_since=options.refresh_since,
        trusted_hosts=named,
    )
    fetcher = WebFetcher(http, Wikis(http, wiki_api), max_picture_bytes=recipe.images.max_bytes)
    return cache, http, fetcher


def _open_llm(
    workspace: Workspace,
    recipe: EngineRecipe,
    options: EngineOptions,
    environment: Mapping[str, str],
    stack: contextlib.ExitStack,
    progress: Progress,
) -> LlmClient | None:
    """Open the LLM client, or return None where questions are written without one."""
    named = options.llm not in ("auto", EXTRACTIVE)
    wanted = named or bool(recipe.llm.model or any(environment.get(name) for name in _LLM_NAMES))
    if options.offline or options.llm == EXTRACTIVE or not wanted:
        if options.budget_usd is not None:
            raise UserError(
                "--budget-usd bounds what an LLM costs, and this run has none: set OPENAI_API_KEY "
                "and name a model with --llm or CAMBRIAN_LLM, or leave the budget out"
            )
        return None
    from cambrian_data.llm.choose import resolve_model  # openai takes a second to import
    from cambrian_data.llm.client import LlmClient

    choice = resolve_model(recipe.llm, environment, model=options.llm if named else "")
    ledger = stack.enter_context(Ledger(workspace.ledger))
    return stack.enter_context(
        LlmClient(
            recipe.llm,
            ledger,
            model=choice.model,
            base_url=choice.base_url,
            api_key=choice.api_key,
            prices=load_prices(workspace.root, recipe.llm.prices),
            budget_usd=options.budget_usd,
            progress=progress,
        )
    )


def _writer(workspace: Workspace, recipe: EngineRecipe, llm: LlmClient | None) -> Writer:
    if llm is None:
        return ExtractiveWriter(recipe.vqa)
    return LlmWriter(
        llm, recipe.vqa, workspace_root=workspace.root, model=llm.model, can_see=llm.can_see
    )


def _writer_identity(writer: Writer, llm: LlmClient | None) -> list[str]:
    return [writer.version, llm.base_url if llm else ""]


def numbers(services: EngineServices) -> dict[str, Any]:
    """Return what the services did: requests by kind, calls, tokens and cost."""
    found: dict[str, Any] = {}
    if services.http:
        found["http"] = services.http.numbers()
    if services.llm:
        found["llm"] = asdict(services.llm.spend())
    return found

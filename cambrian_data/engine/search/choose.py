"""Which search backend a run uses: by its name, or the first for which a key is set.

Keys and addresses come from the environment; `service_addresses` tells whom a run will ask before
there is anything to ask with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cambrian_data.engine.corpus import Corpus
from cambrian_data.engine.search.backend import SearchBackend, SearchConfig
from cambrian_data.engine.search.brave import BRAVE_ENDPOINT, BRAVE_PATH, BraveSearch
from cambrian_data.engine.search.corpus import CorpusSearch
from cambrian_data.engine.search.google import GOOGLE_ENDPOINT, GOOGLE_PATH, GoogleSearch
from cambrian_data.engine.search.mediawiki import MediaWikiSearch, mediawiki_api
from cambrian_data.engine.search.searxng import SEARXNG_VARIABLE, SearxngSearch, searxng_endpoint
from cambrian_data.engine.search.service import endpoint_of
from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

BACKENDS = ("auto", "mediawiki", "wikipedia", "google", "brave", "searxng", "corpus")
"""Names that `--search` takes; `wikipedia` is another name of `mediawiki`."""
_NEEDS = {
    "google": ("GOOGLE_API_KEY", "GOOGLE_SE_ID"),
    "brave": ("BRAVE_API_KEY",),
    "searxng": (SEARXNG_VARIABLE,),
}


def choose_backend(
    name: str,
    environment: Mapping[str, str],
    config: SearchConfig,
    http: HttpClient | None,
    corpus: Corpus | None,
) -> SearchBackend:
    """Return the backend of a name of `BACKENDS`.

    Args:
        name: `auto` takes the first of google, brave, searxng whose variables are set, and
            mediawiki, which needs none, otherwise.
        environment: where keys and addresses stand, such as `os.environ`.
        config: the recipe's section `search`.
        http: the way to the web; only the corpus does without.
        corpus: the embedded pages; only the corpus backend needs them.
    Raises:
        UserError: no such backend, or one of its variables is missing or wrong.
    """
    chosen = backend_name(name, environment)
    if chosen == "corpus":
        if corpus is None:
            raise ValueError("the corpus backend needs the corpus")
        return CorpusSearch(corpus)
    if http is None:
        raise ValueError(f"the backend {chosen} needs a way to the web")
    (url,) = service_addresses(chosen, environment, config)
    if chosen == "google":
        key, engine = (environment[variable].strip() for variable in _NEEDS["google"])
        return GoogleSearch(http, url, key=key, engine=engine, config=config)
    if chosen == "brave":
        return BraveSearch(http, url, key=environment["BRAVE_API_KEY"].strip(), config=config)
    if chosen == "searxng":
        return SearxngSearch(http, url, config=config)
    return MediaWikiSearch(http, url, config=config)


def backend_name(name: str, environment: Mapping[str, str]) -> str:
    """Return which backend a name stands for: `auto` and `wikipedia` are resolved.

    Raises:
        UserError: there is no such backend, or it lacks a variable; the message names it.
    """
    if name not in BACKENDS:
        raise UserError(f"there is no search backend {name!r} (known: {', '.join(BACKENDS)})")
    if name == "wikipedia":
        return "mediawiki"
    if name != "auto":
        missing = _missing(name, environment)
        if missing:
            raise UserError(
                f"--search {name} needs {' and '.join(missing)}: set it in the environment, or use "
                "--search wikipedia, which needs no key"
            )
        return name
    # A Google key without an engine is no fault here: other services of Google use it, too.
    return next((name for name in _NEEDS if not _missing(name, environment)), "mediawiki")


def _missing(name: str, environment: Mapping[str, str]) -> list[str]:
    return [
        variable for variable in _NEEDS.get(name, ()) if not environment.get(variable, "").strip()
    ]


def service_addresses(name: str, environment: Mapping[str, str], config: SearchConfig) -> list[str]:
    """Return the addresses of the services that a backend asks; none for the corpus.

    Raises:
        UserError: as `choose_backend`.
    """
    chosen = backend_name(name, environment)
    if chosen == "corpus":
        return []
    if chosen == "google":
        return [_endpoint(environment, "CAMBRIAN_GOOGLE_ENDPOINT", GOOGLE_ENDPOINT, GOOGLE_PATH)]
    if chosen == "brave":
        return [_endpoint(environment, "CAMBRIAN_BRAVE_ENDPOINT", BRAVE_ENDPOINT, BRAVE_PATH)]
    if chosen == "searxng":
        return [searxng_endpoint(environment[SEARXNG_VARIABLE])]
    return [mediawiki_api(environment, config.language)]


def _endpoint(environment: Mapping[str, str], variable: str, default: str, path: str) -> str:
    address = environment.get(variable, "").strip()
    return endpoint_of(address, path, variable=variable) if address else default

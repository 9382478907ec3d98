"""Pictures below a web address, asked for politely: one rate for the host, robots.txt obeyed.

Whether a picture is there is only known by asking for it. A picture that was had is not asked for
again: the workspace's picture cache knows its address.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.picture_files import FoundFile, PictureProblem
from cambrian_data.records import UserError, content_id
from cambrian_data.shard_store import shown
from cambrian_data.web.address import parse_address
from cambrian_data.web.answers import FetchError
from cambrian_data.web.cache import HttpCache
from cambrian_data.web.guard import check_literal
from cambrian_data.web.http import HttpClient, HttpConfig


class PassingProblem(PictureProblem):
    """A picture that could not be had now, but may be at another time."""


class UrlPictures:
    """The pictures whose address is a prefix and their path."""

    is_remote = True

    def __init__(
        self,
        prefix: str,
        rules: PathRules,
        *,
        cache: Path,
        config: HttpConfig,
        allow_private: bool = False,
        processes: int = 1,
    ) -> None:
        """Take what is needed; nothing is asked yet.

        Args:
            prefix: `https://HOST/FOLDER`.
            rules: only its extensions matter, which are asked for one after another.
            cache: SQLite file of the web's answers (robots.txt, what is gone).
            config: rates and the contact.
            allow_private: whether the host may be one that is not of the open internet.
            processes: number of processes that ask at once; they share the rate.
        Raises:
            UserError: an address that cannot or may not be asked.
        """
        try:
            address = parse_address(prefix)
            if not allow_private:
                check_literal(address.host, address.port)
        except FetchError as error:
            raise UserError(_refusal(prefix, error)) from None
        if "?" in address.url or "#" in prefix:
            raise UserError(
                f"--images {shown(prefix)!r} was given with a ? or #: paths are added at its end, "
                "so that no ? fits; leave out what follows"
            )
        self._prefix, self._rules, self._cache = address.url.rstrip("/"), rules, cache
        self._allow_private = allow_private
        share = max(1, processes)
        hosts = {host: rate / share for host, rate in config.host_rates.items()}
        rate = config.requests_per_second / share
        update = {"requests_per_second": rate, "host_rates": hosts}
        self._config = config.model_copy(update=update)
        self._client: HttpClient | None = None
        self._lock = threading.Lock()
        self._asks(address.url)

    def _asks(self, url: str) -> None:
        """Fail now, and not at the first picture, where no contact is set."""
        with HttpCache(self._cache, max_bytes=self._config.cache_max_bytes) as cache:
            HttpClient(self._config, cache).check_contact(url)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_client": None}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def find(
        self, paths: Collection[str], *, with_times: bool
    ) -> dict[str, FoundFile | PictureProblem]:
        """Return the address of every path; nothing is asked."""
        return {path: FoundFile(path, self._url(path), 0, 0, place=path) for path in paths}

    def read(self, found: FoundFile, max_bytes: int) -> bytes:
        """Ask for a picture; where it is missing, with the other suffixes of the rules.

        Raises:
            PictureProblem: image_missing, image_unreadable (what was sent is too large), or a
                `PassingProblem`.
        """
        stem = posixpath.splitext(found.path)[0]
        paths = [found.path, *(stem + suffix for suffix in self._rules.extensions)]
        missing: PictureProblem | None = None
        for path in dict.fromkeys(paths):
            try:
                return self._opened().get(self._url(path), kind="picture", max_bytes=max_bytes).body
            except FetchError as error:
                detail = f"{found.path}: {error.reason}: {error.detail}"[:300]
                if error.is_passing:
                    raise PassingProblem("image_missing", detail) from None
                if error.reason == "too_large":
                    raise PictureProblem("image_unreadable", detail) from None
                missing = missing or PictureProblem("image_missing", detail)
        assert missing is not None, "there is a first path"
        raise missing

    def fingerprint(self, *, with_times: bool) -> str:
        """Return a hash of the address: what lies there now is not known."""
        return content_id([self._prefix])

    def _url(self, path: str) -> str:
        return f"{self._prefix}/{quote(path, safe='/', errors='surrogatepass')}"

    def _opened(self) -> HttpClient:
        with self._lock:
            if self._client is None:
                cache = HttpCache(self._cache, max_bytes=self._config.cache_max_bytes)
                self._client = HttpClient(self._config, cache, allow_private=self._allow_private)
            return self._client


def _refusal(prefix: str, error: FetchError) -> str:
    """Return why an address is not asked and what to do, without user, password and query."""
    place = shown(prefix)
    if error.reason == "private_address":
        return (
            f"--images {place!r} is no address of the open internet; add --allow-private-hosts "
            "to fetch from it all the same"
        )
    what = error.detail.partition(": ")[0]  # after it stands the address as it was given
    if what == "not an address" and "@" in prefix:
        place = prefix.partition("://")[0] + "://..."
    return (
        f"--images {place!r} cannot be asked: {what}; write it as https://HOST/FOLDER, or give a "
        "folder or tar files"
    )

"""What of the cache may be used for a request, and what of an answer is kept.

Kept are 200 and 203 of pages and services, redirects, and 404 and 410; never a picture's body,
never an answer that its caller complained about.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from cambrian_data.web.address import Address
from cambrian_data.web.answers import Answer
from cambrian_data.web.ask import Ask
from cambrian_data.web.cache import CachedAnswer, HttpCache
from cambrian_data.web.clock import Clock
from cambrian_data.web.retry import GONE, REDIRECTS, fault_of_status
from cambrian_data.web.transport import Reply

_KEPT_REDIRECTS = REDIRECTS - {303}


class Shelf:
    """The cache, as requests see it."""

    def __init__(self, cache: HttpCache, clock: Clock, since: float) -> None:
        """Take what is needed.

        Args:
            cache: holds the answers.
            clock: tells how old they are.
            since: what its host has not confirmed since then (seconds since 1970) is not fresh.
        """
        self._cache, self._clock, self._since = cache, clock, since
        self._lock = threading.Lock()
        self._open_keys: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Let one thread at a time ask for an address; the next one finds it in the cache."""
        with self._lock:
            lock, num_users = self._open_keys.get(key, (threading.Lock(), 0))
            self._open_keys[key] = lock, num_users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                num_users = self._open_keys[key][1] - 1
                if num_users:
                    self._open_keys[key] = lock, num_users
                else:
                    del self._open_keys[key]

    def find(self, key: str, address: Address, ask: Ask) -> CachedAnswer | None:
        """Return what is kept and of use, fresh or not."""
        cached = self._cache.get(key)
        if cached is None or (ask.kind == "picture" and cached.status in (200, 203)):
            return None
        if cached.status not in GONE and ask.complaint(kept_answer(cached, address)):
            return None  # another caller was content with less
        return cached

    def is_fresh(self, cached: CachedAnswer, ask: Ask) -> bool:
        """Say whether an answer can be used without asking again."""
        if ask.kind != "robots" and cached.validated_at < self._since:
            return False
        return self._clock.time() - cached.validated_at <= ask.max_age_s

    def confirm(self, key: str, cached: CachedAnswer, reply: Reply) -> CachedAnswer:
        """Keep what a 304 has confirmed, with its newer headers."""
        at = self._clock.time()
        headers = {**cached.headers, **reply.headers}
        self._cache.validated(key, at, headers)
        return CachedAnswer(
            status=cached.status,
            headers=headers,
            body=cached.body,
            fetched_at=cached.fetched_at,
            validated_at=at,
        )

    def keep(self, key: str, answer: Answer, ask: Ask) -> None:
        """Keep an answer, if it is of a kind that is kept."""
        if answer.status in REDIRECTS:
            # Where a service leads may hold the key that it was asked with.
            is_kept = answer.status in _KEPT_REDIRECTS and not ask.has_secrets
        else:
            is_kept = answer.status in (200, 203) and ask.kind != "picture"
        if is_kept and not answer.from_cache:
            self._put(key, answer.status, answer.headers, answer.body, answer.fetched_at)

    def keep_gone(self, key: str, reply: Reply) -> None:
        """Keep that there is nothing."""
        self._put(key, reply.status, reply.headers, reply.body, iso_time(self._clock.time()))

    def fetched_at(self, reply: Reply, cached: CachedAnswer | None) -> str:
        """Return since when we have this body."""
        if cached is not None and cached.status == reply.status and cached.body == reply.body:
            return cached.fetched_at
        return iso_time(self._clock.time())

    def _put(self, key: str, status: int, headers: object, body: bytes, fetched_at: str) -> None:
        assert isinstance(headers, dict)
        kept = CachedAnswer(
            status=status,
            headers=headers,
            body=body,
            fetched_at=fetched_at,
            validated_at=self._clock.time(),
        )
        self._cache.put(key, kept)


def kept_answer(cached: CachedAnswer, address: Address) -> Answer:
    """Return a cached answer as an answer.

    Raises:
        FetchError: missing; what is kept is that there is nothing.
    """
    if cached.status in GONE:
        error = fault_of_status(cached.status, cached.headers, cached.body, 0.0)
        assert error is not None, "a page that is gone is an error"
        raise error
    return Answer(
        url=address.url,
        final_url=address.url,
        status=cached.status,
        body=cached.body,
        headers=cached.headers,
        fetched_at=cached.fetched_at,
        from_cache=True,
    )


def iso_time(at: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))

"""The one way to the web: polite, cached, guarded requests.

`HttpClient.get` obeys robots.txt, opt-outs, a rate per host and Retry-After, refuses private
addresses, follows redirects hop by hop, tries passing faults again and keeps what it got in a
cache on disk. What cannot be had is a `FetchError` with one of the closed reasons of a drop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from pydantic import Field, PositiveFloat

from cambrian_data import __version__
from cambrian_data.recipes import Config
from cambrian_data.records import UserError
from cambrian_data.web.address import Address, follow, parse_address, places
from cambrian_data.web.answers import Answer, FetchError
from cambrian_data.web.ask import Ask, IsGood, Kind
from cambrian_data.web.cache import CachedAnswer, HttpCache
from cambrian_data.web.clock import Clock, SystemClock
from cambrian_data.web.guard import check_literal
from cambrian_data.web.optout import opt_out
from cambrian_data.web.outages import Outages
from cambrian_data.web.rates import Rates, closed
from cambrian_data.web.redact import Secrets
from cambrian_data.web.retry import GONE, REDIRECTS, Fault, backoff_s, fault_of_status
from cambrian_data.web.robots import MAX_AGE_S, MAX_BYTES, Robots
from cambrian_data.web.shelf import Shelf, kept_answer
from cambrian_data.web.transport import Reply, Transport
from cambrian_data.web.unpack import ACCEPTED

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0


class HttpConfig(Config):
    """How the web is asked."""

    contact: str = ""
    """Who runs this: a mail or web address, sent in the User-Agent."""
    requests_per_second: float = Field(default=5.0, gt=0)
    """Requests a second to one host, robots.txt and retries included."""
    host_rates: dict[str, PositiveFloat] = Field(default={"api.search.brave.com": 1.0})
    """Other rates for single hosts: `{"en.wikipedia.org": 10}`; with a port, for that port. The
    smallest plan of Brave allows one request a second."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Wait for a connection, and for each part of an answer; the whole may take four times it."""
    max_tries: int = Field(default=6, ge=1)
    """Times that one address is asked when its host fails in a passing way."""
    max_redirects: int = Field(default=5, ge=0)
    """Redirects that are followed."""
    max_page_bytes: int = Field(default=20_000_000, gt=0)
    """Size of an answer, sent and unpacked, unless the caller sets another cap."""
    max_wait_s: float = Field(default=120.0, ge=0)
    """Longest Retry-After that is waited for; a host that asks for more is left for a later run."""
    max_age_days: float = Field(default=30.0, ge=0)
    """Age at which a cached answer is asked for again."""
    cache_max_bytes: int = Field(default=4 * 2**30, gt=0)
    """Size of the cache; beyond it what was used least recently goes."""


class HttpClient:
    """Polite, cached, guarded requests; for many threads at once."""

    def __init__(
        self,
        config: HttpConfig,
        cache: HttpCache,
        *,
        allow_private: bool = False,
        refresh_since: str | None = None,
        clock: Clock | None = None,
        trusted_hosts: Iterable[str] = (),
    ) -> None:
        """Take what is needed; nothing is asked yet.

        Args:
            config: rates, caps and the contact.
            cache: stays the caller's, and is not closed.
            allow_private: whether addresses that are not of the open internet may be asked.
            refresh_since: ISO 8601; what its host has not confirmed since then is asked again.
            clock: the machine's where it is left out.
            trusted_hosts: hosts (`host:port`, or addresses) of services that the user named:
                those may be private ones.
        Raises:
            UserError: the contact cannot be sent, the date is none, or a trusted host is none.
        """
        self.config, self.cache, self.contact = config, cache, config.contact.strip()
        if not self.contact.isascii() or not self.contact.isprintable():
            raise UserError(
                f"the contact {self.contact!r} cannot be sent with requests: write it in plain "
                "ASCII, such as you@example.org (CAMBRIAN_CONTACT, or http.contact in the recipe)"
            )
        self._agent = f"cambrian/{__version__}" + (f" ({self.contact})" if self.contact else "")
        self._allow_private, self._trusted = allow_private, places(trusted_hosts)
        self._clock = clock or SystemClock()
        self._shelf = Shelf(cache, self._clock, _seconds(refresh_since))
        self._end = threading.Event()
        self._rates = Rates(
            config.requests_per_second,
            config.host_rates,
            max_wait_s=config.max_wait_s,
            clock=self._clock,
            end=self._end,
        )
        self._outages = Outages(self._clock)
        self._transport = Transport(config.timeout_s)
        self._robots = Robots(
            self._robots_txt, self._rates, clock=self._clock, max_wait_s=config.max_wait_s
        )
        self._secrets = Secrets()
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all waits and cut off what is under way (FetchError there); from any thread."""
        self._end.set()
        self._transport.close()
        self._secrets.close()

    def numbers(self) -> dict[str, int]:
        """Return counts: requests sent, from_cache, not_modified, retries, bytes received."""
        with self._lock:
            names = ("requests", "from_cache", "not_modified", "retries", "bytes")
            return {name: self._numbers[name] for name in names}

    def check_contact(self, url: str) -> None:
        """Refuse an address that is not on this machine where no contact is set.

        Raises:
            UserError: says how to set it.
            FetchError: bad_address.
        """
        self._check_contact(parse_address(url))

    def get(
        self,
        url: str,
        *,
        kind: Kind,
        params: Mapping[str, str | int] | None = None,
        secret_params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        is_good: IsGood | None = None,
        etag: str | None = None,
        last_modified: str | None = None,
    ) -> Answer:
        """Return the answer of an address, from the cache or the web.

        Args:
            url: an http or https address; its fragment is not sent.
            kind: `page` and `picture` obey robots.txt and opt-outs; `service` is an address that
                the user names. A picture is never kept in the cache.
            params: added to the query.
            secret_params: added to the query, but neither to the cache's key nor to any message.
            headers: sent; all but Accept and Accept-Language count as secret: they are kept out of
                the cache and of every message, and are not sent to another host.
            max_bytes: cap on the body instead of `max_page_bytes`.
            is_good: says why a 200 is no answer after all (None: it is one); then it is tried
                again, and what the last try gave is returned, but not cached.
            etag: of the copy that the caller has; a 304 is returned as an Answer of status 304.
            last_modified: of the copy that the caller has.
        Raises:
            FetchError: nothing was had; the reason says why, `is_passing` whether to try later.
            UserError: no contact is set, or a header that cannot be sent.
            OSError: the cache cannot be written.
        """
        ask = Ask(
            kind=kind,
            max_bytes=max_bytes or self.config.max_page_bytes,
            max_age_s=self.config.max_age_days * _DAY_S,
            secret_params=dict(secret_params or {}),
            headers={name.lower(): value for name, value in (headers or {}).items()},
            is_good=is_good,
            etag=etag,
            last_modified=last_modified,
        )
        ask.check_headers()
        if not ask.has_secrets:
            return self._follow(parse_address(url, params), ask)
        self._secrets.add(ask.secrets)
        try:
            return self._follow(parse_address(url, params), ask)
        except FetchError as error:
            clean = FetchError(
                error.reason,
                self._secrets.text(error.detail),
                is_passing=error.is_passing,
                status=error.status,
                body=self._secrets.data(error.body),
            )
        raise clean  # outside of `except`: the first error may hold the secret

    # ------------------------------------------------------------------- one address after another

    def _robots_txt(self, url: str) -> Answer:
        return self._follow(
            parse_address(url), Ask(kind="robots", max_bytes=MAX_BYTES, max_age_s=MAX_AGE_S)
        )

    def _follow(self, address: Address, ask: Ask) -> Answer:
        first = address.url
        for _ in range(self.config.max_redirects + 1):
            answer = self._one(address, ask)
            if answer.status not in REDIRECTS:
                last = self._secrets.text(answer.final_url) if ask.has_secrets else answer.final_url
                return dataclasses.replace(answer, url=first, final_url=last)
            location = answer.headers.get("location", "")
            if not location:
                raise FetchError("missing", f"status {answer.status}, a redirect to nowhere")
            following = follow(address, location)
            ask = ask.after_redirect(is_same_origin=following.origin == address.origin)
            address = following
        raise FetchError("bad_address", f"more than {self.config.max_redirects} redirects")

    def _one(self, address: Address, ask: Ask) -> Answer:
        """Return what one address answers, redirects included, and obey its opt-outs."""
        if self._end.is_set():
            raise closed()
        is_guarded = self._is_guarded(address, ask)
        if is_guarded:
            check_literal(address.host, address.port)
        key = ask.key(address)
        if ask.has_secrets:  # a redirect may have carried one into the address
            key = self._secrets.text(key)
        with contextlib.ExitStack() as stack:
            if ask.kind != "picture":  # two threads that want one picture have nothing to share
                stack.enter_context(self._shelf.alone(key))
            cached = self._shelf.find(key, address, ask)
            if cached is not None and self._shelf.is_fresh(cached, ask):
                self._count("from_cache")
                answer = kept_answer(cached, address)
            else:
                if ask.kind in ("page", "picture"):
                    self._check_page_contact(address)
                    self._robots.check(address)
                else:
                    self._check_contact(address)
                answer = self._ask_web(address, ask, key, cached, is_guarded)
        if ask.kind in ("page", "picture") and answer.status == 200:
            if ask.kind == "page":
                words = opt_out(answer.headers, answer.body, kind="page")
            else:
                words = opt_out(answer.headers, kind="picture")
            if words:
                raise FetchError("opted_out", words)
        return answer

    def _ask_web(
        self, address: Address, ask: Ask, key: str, cached: CachedAnswer | None, is_guarded: bool
    ) -> Answer:
        """Ask one address until it answers, or until it is no use."""
        rate, attempt = self._rates.of(address), 0
        self._outages.check(address.place)
        while True:
            attempt += 1
            fault: Fault
            try:
                reply = self._send(address, ask, cached, is_guarded)
                answer = self._judge(reply, address, ask, key, cached)
            except Fault as error:
                fault = error
                if fault.retry_after_s:
                    rate.hold(fault.retry_after_s)
                    if fault.retry_after_s > self.config.max_wait_s:
                        raise fault.as_rate_limited(address.place) from None
                if attempt >= self.config.max_tries:
                    self._note_failure(address.place, fault)
                    raise
            else:
                self._outages.answered(address.place)
                complaint = ask.complaint(answer)
                if complaint is None:
                    self._shelf.keep(key, answer, ask)
                    return answer
                if attempt >= self.config.max_tries:
                    return answer
                fault = Fault("server_error", complaint)
            self._count("retries")
            if not fault.retry_after_s:  # the host has not said how long, and all its threads wait
                self._sleep(backoff_s(address.url, attempt))

    def _note_failure(self, place: str, fault: Fault) -> None:
        if fault.is_passing and self._outages.failed(place, fault.detail):
            logger.warning(
                "%s does not answer (%s): its other addresses are left for a later run",
                place,
                fault.detail,
            )

    def _send(
        self, address: Address, ask: Ask, cached: CachedAnswer | None, is_guarded: bool
    ) -> Reply:
        headers = {"user-agent": self._agent, "accept": "*/*", **ask.headers}
        headers |= {"accept-encoding": ACCEPTED, **ask.conditions(cached)}
        headers = {name.title(): value for name, value in headers.items()}
        asked = parse_address(address.url, ask.secret_params) if ask.secret_params else address
        with self._rates.of(address).turn() as turn:
            try:
                reply = self._transport.exchange(
                    asked, headers, turn, is_guarded=is_guarded, max_bytes=ask.max_bytes
                )
            finally:
                if turn.was_sent:
                    self._count("requests")
        self._count("bytes", reply.num_bytes)
        if ask.has_secrets:
            reply = dataclasses.replace(reply, body=self._secrets.data(reply.body))
        return reply

    def _judge(
        self, reply: Reply, address: Address, ask: Ask, key: str, cached: CachedAnswer | None
    ) -> Answer:
        """Return the answer in a reply; raise where it is none."""
        if reply.status == 304 and cached is not None:
            self._count("not_modified")
            return kept_answer(self._shelf.confirm(key, cached, reply), address)
        if reply.status == 304 and not ask.conditions(None):
            raise Fault("server_error", "status 304 to a request without conditions", status=304)
        error = fault_of_status(reply.status, reply.headers, reply.body, self._clock.time())
        if error is not None and reply.status in GONE:
            self._shelf.keep_gone(key, reply)
        if error is not None:
            raise error
        return Answer(
            url=address.url,
            final_url=address.url,
            status=reply.status,
            body=b"" if reply.status in REDIRECTS else reply.body,
            headers=reply.headers,
            fetched_at=self._shelf.fetched_at(reply, cached),
        )

    # ------------------------------------------------------------------------------- within

    def _is_guarded(self, address: Address, ask: Ask) -> bool:
        is_trusted = ask.kind == "service" and address.place in self._trusted
        return not self._allow_private and not is_trusted

    def _check_page_contact(self, address: Address) -> None:
        """Leave out a page or picture rather than end a run that met it half-way."""
        try:
            self._check_contact(address)
        except UserError as error:
            raise FetchError("no_contact", str(error), is_passing=True) from None

    def _check_contact(self, address: Address) -> None:
        if not self.contact and not address.is_loopback:
            raise UserError(
                f"no contact is set, and {address.place} is to be asked: web sites must be able to "
                "reach who runs this; set CAMBRIAN_CONTACT=you@example.org, or http.contact in the "
                "recipe"
            )

    def _sleep(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while (wait := until - self._clock.monotonic()) > 0 and not self._end.is_set():
            self._clock.sleep(wait, self._end)
        if self._end.is_set():
            raise closed()

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._numbers[name] += number


def _seconds(date: str | None) -> float:
    """Return an ISO 8601 date as seconds since 1970; without a zone it is UTC."""
    if date is None:
        return 0.0
    try:
        at = datetime.fromisoformat(date)
    except ValueError:
        raise UserError(
            f"refresh_since {date!r} is no date: write it as 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

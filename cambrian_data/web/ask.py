"""What is asked for: one request as its caller means it, and as it changes over redirects."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cambrian_data.records import UserError
from cambrian_data.web.address import Address
from cambrian_data.web.answers import Answer
from cambrian_data.web.cache import CachedAnswer

Kind = Literal["page", "picture", "service"]
IsGood = Callable[[Answer], str | None]

_PUBLIC_HEADERS = ("accept", "accept-language")
_SENDABLE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request; `repr` shows no secrets."""

    kind: Literal["page", "picture", "service", "robots"]
    max_bytes: int
    max_age_s: float
    secret_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case."""
    is_good: IsGood | None = None
    etag: str | None = None
    last_modified: str | None = None
    had_secrets: bool = False
    """Whether the first address was asked with secrets, which a redirect may repeat."""

    @property
    def has_secrets(self) -> bool:
        """Whether secrets are, or may be, in what is asked and answered."""
        return self.had_secrets or bool(self.secrets)

    @property
    def secrets(self) -> list[str]:
        """The values that must not be seen."""
        private = [v for k, v in self.headers.items() if k not in _PUBLIC_HEADERS]
        # The part behind `Bearer` is the secret as much as the whole.
        return [
            *self.secret_params.values(),
            *private,
            *(word for v in private for word in v.split()[-1:]),
        ]

    def check_headers(self) -> None:
        """Refuse headers that cannot be sent; http.client would show the value in its error.

        Raises:
            UserError: names the header, not its value.
        """
        for name, value in self.headers.items():
            if not _SENDABLE.fullmatch(value):
                raise UserError(
                    f"the header {name.title()} cannot be sent: its value has a line break or "
                    "characters beyond Latin-1; look at the key it is made from"
                )

    def key(self, address: Address) -> str:
        """Return the cache's key: what decides the answer, without secrets."""
        group = "web" if self.kind in ("page", "picture") else self.kind
        public = sorted(
            (name, value) for name, value in self.headers.items() if name in _PUBLIC_HEADERS
        )
        return f"{group} GET {address.url}" + "".join(f" {k}: {v}" for k, v in public)

    def conditions(self, cached: CachedAnswer | None) -> dict[str, str]:
        """Return the headers that ask for an answer only if it has changed."""
        etag, last_modified = self.etag, self.last_modified
        if cached is not None and cached.status in (200, 203):
            etag, last_modified = cached.headers.get("etag"), cached.headers.get("last-modified")
        wanted = {"if-none-match": etag, "if-modified-since": last_modified}
        return {k: v for k, v in wanted.items() if v and _SENDABLE.fullmatch(v)}

    def complaint(self, answer: Answer) -> str | None:
        """Return why a 200 is no answer after all."""
        if self.is_good is None or answer.status not in (200, 203):
            return None
        return self.is_good(answer)

    def after_redirect(self, *, is_same_origin: bool) -> Ask:
        """Return what is asked of the next address; another host is not shown the secrets."""
        headers = self.headers
        if not is_same_origin:
            headers = {k: v for k, v in headers.items() if k in _PUBLIC_HEADERS}
        return dataclasses.replace(
            self, secret_params={}, headers=headers, had_secrets=self.has_secrets
        )

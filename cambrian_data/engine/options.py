"""What a user says of one engine run beside the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cambrian_data.engine.topics import read_wanted, wanted_of_topic
from cambrian_data.records import UserError
from cambrian_data.workspace import slug, utc_today


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """One run: what is looked for, with what, and within which limits."""

    topic: str | None = None
    """A field, a subfield or a topic."""
    files: tuple[Path, ...] = ()
    """Files of fields, subfields or topics, beside or instead of `topic`."""
    search: str = "auto"
    """The search backend: auto, wikipedia, google, brave, searxng or corpus."""
    llm: str = "auto"
    """Who writes questions: auto, a model's name, or extractive."""
    offline: bool = False
    """The embedded corpus and the extractive writer alone."""
    allow_private_hosts: bool = False
    """Fetch from private and loopback addresses too."""
    refresh: bool = False
    """Ask again for what was fetched before today; a run of its own for each day."""
    refresh_from: str | None = None
    """Ask again for what was fetched before this time (ISO 8601, UTC): a turn of a schedule."""
    budget_usd: float | None = None
    """What this run may spend on the LLM; the same command goes on later."""
    limit: int | None = None
    """Fetch at most this many pages, best ranked first."""
    dataset: str | None = None
    """Name in the pool; by default `engine-` and the label."""

    @property
    def label(self) -> str:
        """The topic, or the name of the first file: what the run is called after."""
        return self.topic or (self.files[0].stem if self.files else "")

    @property
    def dataset_name(self) -> str:
        """Name of the data set that the run makes."""
        return self.dataset or f"engine-{slug(self.label)}"

    @property
    def refresh_since(self) -> str | None:
        """The time (ISO 8601, UTC) before which answers are too old; None: by their age alone."""
        today = f"{utc_today()}T00:00:00Z" if self.refresh else None
        return self.refresh_from or today

    def wanted(self) -> list[dict[str, Any]]:
        """Return fields, subfields and topics as JSON data, then drops for unreadable lines.

        Raises:
            UserError: nothing is asked for, or a file cannot be read at all.
        """
        if self.topic is None and not self.files:
            raise UserError("name a topic with --topic, such as physics, or a file with --fields")
        try:
            (self.topic or "").encode()
        except UnicodeEncodeError:
            raise UserError(f"--topic {self.topic!r} is no valid text") from None
        found, drops = [] if self.topic is None else wanted_of_topic(self.topic), []
        for path in self.files:
            read, refused = read_wanted(path)
            found += read
            drops += refused
        return [*(item._asdict() for item in found), *drops]

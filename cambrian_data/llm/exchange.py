"""What goes into the LLM layer and what comes out: requests, answers, plans, what was spent.

Light to import: stages make requests and read answers without loading a client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

Outcome = Literal[
    "ok", "refusal", "cut_off", "empty_answer", "malformed", "llm_error", "over_budget"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequest:
    """One question to the model, and the shape that its answer must have."""

    messages: list[dict[str, Any]]
    """In the form of OpenAI's chat API; pictures as data URLs."""
    schema: type[BaseModel]
    """What the answer must be; without fields of free keys, which structured output cannot say."""
    max_tokens: int
    about: str = ""
    """Id of what the request is about; not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmAnswer:
    """What became of a request."""

    key: str
    outcome: Outcome
    value: BaseModel | None = None
    """The answer, of the request's schema; there if and only if the outcome is ok."""
    detail: str = ""
    model: str = ""
    prompt_tokens: int = 0
    """Of all answers that were ever written down for this request, as are the next two."""
    completion_tokens: int = 0
    cost_usd: float | None = None
    """None: the model's price is not known."""
    from_ledger: bool = False
    """Whether nothing had to be sent."""
    is_passing: bool = False
    """Whether a later run may fare better: the server was away, or the budget was used up."""


class Asks(Protocol):
    """What most stages need of a client."""

    def ask(self, requests: Iterable[LlmRequest]) -> list[LlmAnswer]:
        """Return the answers in the order of the requests."""


@dataclass(slots=True)
class Counts:
    """What a client did so far, as it counts."""

    requests: int = 0
    from_ledger: int = 0
    sent: int = 0
    retries: int = 0
    repeated: int = 0
    open: int = 0
    over_budget: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What asking would take; nothing was sent to find out."""

    calls: int = 0
    in_ledger: int = 0
    """Requests that cost nothing: settled in the ledger, or the same as another one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As expected; `completion_tokens_at_most` if every answer is as long as it may be."""
    completion_tokens_at_most: int = 0
    cost_usd: float | None = None
    """As expected. None: the model's price is not known."""
    cost_usd_at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What a client has done so far."""

    requests: int = 0
    """Requests that have got their answer, whatever it is."""
    from_ledger: int = 0
    """Of them those for which nothing had to be sent."""
    sent: int = 0
    retries: int = 0
    """Of those sent, the ones that asked again after a fault or an answer of no use."""
    repeated: int = 0
    """Of those sent, the ones whose earlier sending has no word in the ledger: a kill between."""
    open: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    """Answers newly written down, by outcome."""
    over_budget: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """Newly spent. None: the model's price is not known."""

"""The section `llm` of a recipe: which model is asked, how fast, and how often.

What it may cost is no part of a recipe but of a command (`--budget-usd`). Keys stand in the
environment only.
"""

from __future__ import annotations

from pydantic import Field

from cambrian_data.recipes import Config


class LlmConfig(Config):
    """How a language model is asked."""

    model: str = ""
    """Name of the model. Empty: CAMBRIAN_LLM, or the only one that the server has."""
    base_url: str = ""
    """Address of an OpenAI-compatible server, up to `/v1`. Empty: OPENAI_BASE_URL, or OpenAI's."""
    max_open_calls: int = Field(default=64, ge=1, le=2_000)
    """Calls open at the same time, over all threads."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Calls started a minute, evenly spaced; repeats included. Empty: no limit of our own."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Tokens a minute, in and out together. Empty: no limit of our own."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest time for one call, from its start to the last byte of the answer."""
    max_tries: int = Field(default=8, ge=1)
    """Sendings of one request in one run that may end without an answer (429, 500, time-outs)."""
    max_wait_s: float = Field(default=300.0, ge=0)
    """Longest time that a server may ask to wait for; when it asks for more, the run ends."""
    max_silence_s: float = Field(default=300.0, ge=0)
    """When a request gives up and the server has answered nobody for so long, the run ends."""
    max_answers: int = Field(default=4, ge=1)
    """Answers paid for one request, in all runs together, until one can be used."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sent with every request. Empty: not sent, the server's own holds."""
    seed: int | None = None
    """Sent with every request. Empty: not sent."""
    expected_completion_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a usual answer, for the estimate before a run. Empty: the longest there can be."""
    prices: str = ""
    """Path of a price file that is merged over the one that comes with the project."""

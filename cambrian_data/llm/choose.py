"""Which model is asked, where, and with which key: from the command, the recipe, the environment.

The key never leaves `ModelChoice.api_key`: it is in no repr and no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.connection import list_models
from cambrian_data.records import UserError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent to servers of one's own, which want some key or other."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model, its server, and the key."""

    model: str
    base_url: str
    api_key: str = field(repr=False)


def resolve_model(
    config: LlmConfig, environment: Mapping[str, str], *, model: str = ""
) -> ModelChoice:
    """Return the model to ask.

    Args:
        config: the section `llm` of the recipe.
        environment: OPENAI_API_KEY, OPENAI_BASE_URL and CAMBRIAN_LLM are read from it.
        model: named in the command; goes before the recipe, which goes before the environment.
    Raises:
        UserError: no key, no address, or no model can be told; the message says what to set.
    """
    base_url = config.base_url or environment.get("OPENAI_BASE_URL", "") or DEFAULT_BASE_URL
    base_url = base_url.strip().rstrip("/")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"the address of the LLM's server {base_url!r} is none: set OPENAI_BASE_URL (or "
            "llm.base_url) to something like http://localhost:8000/v1"
        )
    if parts.username or parts.password:
        raise UserError(
            f"the address of the LLM's server at {parts.hostname} holds a user or a password: put "
            "the key into OPENAI_API_KEY instead"
        )
    api_key = environment.get("OPENAI_API_KEY", "").strip()
    if not api_key and parts.hostname == urlsplit(DEFAULT_BASE_URL).hostname:
        raise UserError(
            f"{base_url} wants a key: set OPENAI_API_KEY, or set OPENAI_BASE_URL to a server of "
            "your own, or use --llm extractive, which needs none"
        )
    api_key = api_key or NO_KEY
    name = model or config.model or environment.get("CAMBRIAN_LLM", "").strip()
    return ModelChoice(name or _only_model(base_url, api_key), base_url, api_key)


def _only_model(base_url: str, api_key: str) -> str:
    """Return the one model that a server has."""
    names, why = list_models(base_url, api_key)
    if len(names) == 1:
        return names[0]
    if names:
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        why = f"the server at {base_url} has {listed}"
    else:
        why = f"the server at {base_url} does not say which models it has ({why})"
    raise UserError(f"no model is named, and {why}: name one with --llm, llm.model or CAMBRIAN_LLM")

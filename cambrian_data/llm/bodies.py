"""Requests to the bytes that are sent, and the key that stands for those bytes.

The body is canonical JSON, and exactly these bytes go out; the key is a hash of the server's
address, the path and the body. What a server has refused before (JSON schemas, `max_tokens`,
`temperature`) is left out or said otherwise: its `Form`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from pydantic import BaseModel

from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.exchange import LlmRequest
from cambrian_data.llm.prices import PictureRule
from cambrian_data.llm.tokens import message_tokens, text_tokens
from cambrian_data.records import bytes_id, canonical_json

PATH = "/chat/completions"

PLAIN = "no_json_schema"
COMPLETION_TOKENS = "max_completion_tokens"
NO_TEMPERATURE = "no_temperature"
NO_SEED = "no_seed"
"""Traits of a server. `no_json_schema:NAME` is one that refused the schema of that name."""

Form = frozenset[str]
"""The traits that a body was made for."""

_PLAIN_RULE = (
    "Answer with one JSON object and nothing else: no introduction, no explanation, no code fence. "
    "The object must fit this JSON schema: "
)
_STATED = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
"""Keywords that strict mode does not take: said in words instead, and checked in the answer."""
_KEPT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
    | {"$ref", "$defs", "description"}
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request as it is sent."""

    key: str
    first_key: str
    """Of the same request as it was sent before the server refused a part of it."""
    body: bytes
    form: Form
    model: str
    base_url: str
    prompt_tokens: int
    """Estimated."""
    max_tokens: int
    about: str
    has_pictures: bool

    def text(self) -> str:
        """Return the body for the ledger: every picture replaced by the hash of its data URL."""
        if not self.has_pictures:
            return self.body.decode()
        body = orjson.loads(self.body)
        for message in body["messages"]:
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                if part.get("type") == "image_url":
                    address = part["image_url"]["url"]
                    if address.startswith("data:"):
                        part["image_url"]["url"] = f"sha256:{bytes_id(address.encode())}"
        return canonical_json(body).decode()


class Encoder:
    """Makes bodies for one model of one server."""

    def __init__(self, config: LlmConfig, *, model: str, base_url: str, rule: PictureRule) -> None:
        self._config, self._model, self._rule = config, model, rule
        self._base_url = base_url.rstrip("/")

    def encode(self, request: LlmRequest, form: Form = frozenset()) -> Encoded:
        """Return the bytes and the key of a request.

        Raises:
            ValueError: its schema has fields of free keys, which strict mode cannot say.
        """
        schema = schema_json(request.schema)
        messages = request.messages
        body: dict[str, Any] = {"model": self._model}
        if is_plain(form, request.schema):
            messages = _with_rule(messages, schema)
            schema_tokens = 0
        else:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": schema_name(request.schema), "strict": True}
                | {"schema": orjson.loads(schema)},
            }
            schema_tokens = text_tokens(schema)
        body["messages"] = messages
        limit = COMPLETION_TOKENS if COMPLETION_TOKENS in form else "max_tokens"
        body[limit] = request.max_tokens
        if self._config.temperature is not None and NO_TEMPERATURE not in form:
            body["temperature"] = self._config.temperature
        if self._config.seed is not None and NO_SEED not in form:
            body["seed"] = self._config.seed
        data = _bytes_of(body)
        key = key_of(self._base_url, data)
        return Encoded(
            key=key,
            first_key=self.encode(request).key if form else key,
            body=data,
            form=form,
            model=self._model,
            base_url=self._base_url,
            prompt_tokens=message_tokens(messages, self._rule) + schema_tokens,
            max_tokens=request.max_tokens,
            about=_mended(request.about),
            has_pictures=b'"image_url"' in data,
        )


def key_of(base_url: str, body: bytes) -> str:
    """Return the ledger's key: the sha256 (hex) of the address, the path and the body."""
    digest = hashlib.sha256(f"{base_url.rstrip('/')}\n{PATH}\n".encode())
    digest.update(body)
    return digest.hexdigest()


def is_plain(form: Iterable[str], schema: type[BaseModel]) -> bool:
    """Whether the schema is described in words, because the server did not take it."""
    return PLAIN in form or f"{PLAIN}:{schema_name(schema)}" in form


def form_for(traits: Iterable[str], schema: type[BaseModel]) -> Form:
    """Return the traits of a server that matter to a request with this schema."""
    own = f"{PLAIN}:{schema_name(schema)}"
    return frozenset(trait for trait in traits if ":" not in trait or trait == own)


def schema_name(schema: type[BaseModel]) -> str:
    """Return the name under which a schema is sent."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", schema.__name__)[:64]


@lru_cache(maxsize=256)
def schema_json(schema: type[BaseModel]) -> str:
    """Return the JSON schema of a model as strict mode wants it.

    Its properties stand in the order of the model's fields, not sorted: a server fills them in
    this order, and a model must ask before it answers.
    """
    return orjson.dumps(_strict(schema.model_json_schema())).decode()


def _strict(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with closed objects, all fields required, and no other keywords."""
    if "$ref" in node:
        return {"$ref": node["$ref"]}  # nothing may stand beside it
    if len(node.get("allOf", ())) == 1:
        return _strict(node["allOf"][0])
    strict: dict[str, Any] = {}
    for word, value in node.items():
        if word in ("properties", "$defs"):
            strict[word] = {name: _strict(part) for name, part in value.items()}
        elif word in ("anyOf", "oneOf"):
            strict["anyOf"] = [_strict(part) for part in value]
        elif word == "items":
            strict[word] = _strict(value)
        elif word in _KEPT:
            strict[word] = value
    if node.get("type") == "object" or "properties" in node:
        if node.get("additionalProperties") not in (None, False) or "properties" not in node:
            raise ValueError("structured output knows no free keys: use a list of named objects")
        strict["additionalProperties"] = False
        strict["required"] = list(node["properties"])
    stated = [words.format(node[word]) for word, words in _STATED.items() if word in node]
    if stated:
        strict["description"] = " ".join(
            filter(None, [str(node.get("description", "")), f"({', '.join(stated)})"])
        )
    return strict


def _with_rule(messages: list[dict[str, Any]], schema: str) -> list[dict[str, Any]]:
    """Return messages with the schema told by the system, after what the system says already.

    Never in the user's message: a server that repeats it would seem to answer.
    """
    place = 0
    while place < len(messages) and messages[place].get("role") == "system":
        place += 1
    rule = {"role": "system", "content": _PLAIN_RULE + schema}
    return [*messages[:place], rule, *messages[place:]]


def _bytes_of(body: dict[str, Any]) -> bytes:
    """Return a body as it is sent; the order of its keys is that in which it was built."""
    try:
        return orjson.dumps(body)
    except TypeError:  # half a character, out of a page that was cut: no UTF-8 holds it
        return orjson.dumps(_mended(body))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(part) for part in value]
    return value

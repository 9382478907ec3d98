"""Requests to bytes: strict schemas, forms, keys."""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from cambrian_data.llm.bodies import Encoder, form_for, schema_json
from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.exchange import LlmRequest
from cambrian_data.llm.prices import PictureRule
from tests.cambrian_data.llm.servers import ask_for

BASE = "http://127.0.0.1:1/v1"


class Kind(enum.Enum):
    """A kind."""

    ONE = "one"
    TWO = "two"


class Pair(BaseModel):
    """One pair."""

    kind: Kind
    text: str = Field(min_length=3, max_length=9, pattern="a+", description="What is said")
    score: int | None = Field(default=None, ge=1, le=5)


class Pairs(BaseModel):
    """Some pairs."""

    pairs: list[Pair] = Field(min_length=1, max_length=4)
    level: Literal["low", "high"] = "low"
    first: Pair = Field(description="the first one")


def encoder(**settings: object) -> Encoder:
    return Encoder(
        LlmConfig.model_validate(settings), model="m", base_url=BASE + "/", rule=PictureRule()
    )


def test_schemas_are_strict():
    schema = json.loads(schema_json(Pairs))
    assert list(schema["properties"]) == schema["required"] == ["pairs", "level", "first"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["first"] == {"$ref": "#/$defs/Pair"}
    assert schema["properties"]["pairs"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Pair"},
        "description": "(at least 1 items, at most 4 items)",
    }
    pair = schema["$defs"]["Pair"]
    assert list(pair["properties"]) == pair["required"] == ["kind", "text", "score"]
    assert pair["properties"]["text"] == {
        "type": "string",
        "description": "What is said (at least 3 characters, at most 9 characters)",
    }
    assert schema["$defs"]["Kind"]["enum"] == ["one", "two"]
    used = {"title", "default", "pattern", "minItems", "minimum", "minLength"}
    assert not used & set(schema_json(Pairs).replace('"', " ").split())


def test_fields_of_free_keys_are_an_error():
    class Free(BaseModel):
        names: dict[str, int]

    with pytest.raises(ValueError, match="no free keys"):
        schema_json(Free)


def test_a_property_may_be_named_as_a_keyword():
    class Named(BaseModel):
        title: str
        default: int

    assert json.loads(schema_json(Named))["required"] == ["title", "default"]


def test_the_key_is_the_hash_of_all_that_is_sent():
    call = encoder().encode(ask_for("a"))
    whole = f"{BASE}\n/chat/completions\n".encode() + call.body
    assert call.key == hashlib.sha256(whole).hexdigest() == call.first_key
    assert encoder().encode(ask_for("a")).body == call.body
    others = [
        encoder().encode(ask_for("b")),
        encoder().encode(ask_for("a", max_tokens=51)),
        encoder(temperature=0.5).encode(ask_for("a")),
        encoder(seed=1).encode(ask_for("a")),
        encoder().encode(ask_for("a"), frozenset({"no_json_schema"})),
        encoder().encode(ask_for("a"), frozenset({"max_completion_tokens"})),
    ]
    assert len({call.key, *(other.key for other in others)}) == 7
    assert all(other.first_key == call.key for other in others[4:])


def test_the_rule_in_words_stands_after_the_system_and_never_with_the_user():
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "go"}]
    request = LlmRequest(messages=messages, schema=Pairs, max_tokens=5)
    call = encoder().encode(request, frozenset({"no_json_schema:Pairs"}))
    sent = json.loads(call.body)
    assert "response_format" not in sent
    assert [message["role"] for message in sent["messages"]] == ["system", "system", "user"]
    assert sent["messages"][0]["content"] == "be short"
    assert schema_json(Pairs) in sent["messages"][1]["content"]
    assert sent["messages"][2] == messages[1]
    assert request.messages == messages


def test_a_refused_schema_says_nothing_of_others():
    traits = {"no_json_schema:Pairs", "no_seed"}
    assert form_for(traits, Pairs) == traits
    assert form_for(traits, Pair) == {"no_seed"}

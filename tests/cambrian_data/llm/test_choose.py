"""Which model, where, with which key."""

from __future__ import annotations

import pytest

from cambrian_data.llm.choose import resolve_model
from cambrian_data.llm.config import LlmConfig
from cambrian_data.records import UserError

NOTHING = lambda call, number: (500, {})  # noqa: E731


def test_the_command_goes_before_the_recipe_before_the_environment(tiny):
    environment = {"OPENAI_BASE_URL": "http://a/v1/", "CAMBRIAN_LLM": "c", "OPENAI_API_KEY": "s3"}
    chosen = resolve_model(LlmConfig(), environment)
    assert (chosen.model, chosen.base_url, chosen.api_key) == ("c", "http://a/v1", "s3")
    config = LlmConfig(model="b", base_url="http://b/v1")
    assert resolve_model(config, environment).model == "b"
    assert resolve_model(config, environment).base_url == "http://b/v1"
    assert resolve_model(config, environment, model="a").model == "a"
    assert "s3" not in repr(chosen)


def test_servers_of_ones_own_need_no_key():
    assert resolve_model(LlmConfig(model="m", base_url="http://h:1/v1"), {}).api_key == "none"
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        resolve_model(LlmConfig(model="m"), {})


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http:///v1", "http://u:p@h/v1"])
def test_addresses_that_are_none(url):
    with pytest.raises(UserError) as failure:
        resolve_model(LlmConfig(model="m", base_url=url), {})
    assert "u:p" not in str(failure.value)


def test_the_only_model_of_a_server_is_taken(tiny):
    one = tiny(NOTHING, models=["one"])
    assert resolve_model(LlmConfig(base_url=one.url), {}).model == "one"


def test_where_there_are_more_they_are_listed(tiny):
    many = tiny(NOTHING, models=[f"m{i:02d}" for i in range(14)])
    with pytest.raises(UserError, match=r"m00, .*m09 and 4 more.*CAMBRIAN_LLM"):
        resolve_model(LlmConfig(base_url=many.url), {})


def test_where_the_server_does_not_say_a_name_is_asked_for(tiny):
    with pytest.raises(UserError, match="does not say"):
        resolve_model(LlmConfig(base_url=tiny(NOTHING).url), {})
    with pytest.raises(UserError, match="does not say"):
        resolve_model(LlmConfig(base_url="http://127.0.0.1:9/v1"), {})

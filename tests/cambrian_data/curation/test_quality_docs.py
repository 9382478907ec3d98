"""docs/quality.md names every rule, reason, default and language that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cambrian_data.curation.prompt_stats import Kinds
from cambrian_data.curation.rules.checks import ChecksConfig
from cambrian_data.curation.rules.language import LANGUAGES
from cambrian_data.curation.rules.quality import QualityConfig
from cambrian_data.curation.system_prompts import SystemPromptsConfig
from cambrian_data.records import DROP_REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "quality.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(DROP_REASONS["checks"]),
        *sorted(DROP_REASONS["quality"]),
        *QualityConfig.model_fields,
        *sorted(set(SystemPromptsConfig.model_fields) - {"seed"}),
        *(kind.name.lower() for kind in Kinds),
        *LANGUAGES,
    ],
)
def test_it_is_named(name):
    assert f"`{name}`" in PAGE


def test_defaults_are_those_of_the_code():
    checks, prompts, rules = ChecksConfig(), SystemPromptsConfig(), QualityConfig()
    for shown in (
        f"`checks.max_turns` ({checks.max_turns})",
        f"`checks.max_characters` ({checks.max_characters:,})",
        f"`repeated_ngram_words` ({rules.repeated_ngram_words})",
        f"`on_missing_score` (`{rules.on_missing_score}`)",
        f"`max_words` ({prompts.max_words}) words",
        f"`chat_min_words` ({prompts.chat_min_words}) words",
        f"`chat_share` ({prompts.chat_share:g})",
    ):
        assert shown in PAGE

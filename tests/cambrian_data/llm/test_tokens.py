"""Estimates of tokens."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from cambrian_data.llm.prices import PictureRule
from cambrian_data.llm.tokens import message_tokens, picture_size, text_tokens


def data_url(width: int, height: int, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("word", 1), ("a" * 400, 100), ("\u6c34" * 30, 30), ("\u0436" * 30, 15)],
)
def test_text(text, tokens):
    assert text_tokens(text) == tokens


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_sizes_are_read_off_pictures(kind):
    assert picture_size(data_url(300, 200, kind)) == (300, 200)


@pytest.mark.parametrize(
    "url", ["https://x/a.png", "data:image/png;base64,!!!", "data:text/plain,hi", ""]
)
def test_what_is_no_picture_has_no_size(url):
    assert picture_size(url) is None


def test_messages_count_text_and_pictures():
    rule = PictureRule(kind="tiles", base=85, per_tile=170)
    picture = {"type": "image_url", "image_url": {"url": data_url(600, 400)}}
    low = {"type": "image_url", "image_url": {"url": data_url(600, 400), "detail": "low"}}
    text = {"type": "text", "text": "a" * 40}
    assert message_tokens([{"role": "user", "content": "a" * 40}], rule) == 17
    assert message_tokens([{"role": "user", "content": [text, picture]}], rule) == 17 + 425
    assert message_tokens([{"role": "user", "content": [text, low]}], rule) == 17 + 85

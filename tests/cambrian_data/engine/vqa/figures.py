"""Joined figures as a run gives them, and a model that says what it must."""

from __future__ import annotations

from typing import Any

from cambrian_data.llm.exchange import LlmAnswer

CAPTION = "Diagram of two cells and the wall (brown) between them."
TEXT = (
    "Cells divide because they grow. A plant cell is about 50 micrometres long. Its wall holds the "
    "cell in shape, while an animal cell has none."
)


def joined(name: str = "fig1", **changes: Any) -> dict[str, Any]:
    """Return a figure joined to its page, picture, hit and topic."""
    figure = {
        "id": name,
        "page_id": "page1",
        "image_url": f"https://x.org/{name}.png",
        "image_sha256": "ab" * 32,
        "caption": CAPTION,
        "alt": None,
        "section": ["Plants", "Cells"],
        "text": TEXT,
        "position": 0,
    }
    picture = {"sha256": "ab" * 32, "path": "images/ab/x.png", "width": 1000, "height": 500}
    return {
        "figure": figure | changes,
        "page": {"title": "Plant cell", "final_url": "https://x.org/cell"},
        "picture": picture,
        "hit": {"query": "cells", "rank": 1},
        "topic": {"topic": "cells", "field": "biology"},
    }


class Scripted:
    """A client that gives each request the answer that `reply` makes of it."""

    def __init__(self, reply) -> None:
        self.reply, self.requests = reply, []

    def ask(self, requests):
        self.requests = list(requests)
        return [self._answer(number, request) for number, request in enumerate(self.requests)]

    def _answer(self, number, request):
        said = self.reply(request)
        about = {"key": f"key{number}", "model": "m-1"}
        if isinstance(said, str):
            return LlmAnswer(
                outcome=said, detail=f"it was {said}", is_passing=said == "llm_error", **about
            )
        return LlmAnswer(outcome="ok", value=request.schema.model_validate(said), **about)


def pair(question: str, answer: str, kind: str = "identify", grounded: bool = True) -> dict:
    """Return a pair as a model says it."""
    return {"kind": kind, "question": question, "answer": answer, "grounded": grounded}

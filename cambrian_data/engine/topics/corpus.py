"""Topics that the embedded corpus knows: fields, subfields and topics of its pages.

A field's name gives all its topics, a subfield's name those of the subfield, anything else is
taken as one topic itself.
"""

from __future__ import annotations

from typing import Any

from cambrian_data.engine.corpus import Corpus
from cambrian_data.engine.topics.rows import topic_row


def topics_from_corpus(topic: str, corpus: Corpus) -> list[dict[str, Any]]:
    """Return rows of the table `topics`, sorted by field, subfield and topic.

    Args:
        topic: a field (`physics`), a subfield (`optics`) or a topic (`simple pendulum`) in any
            case; anything else becomes one topic of its own with the origin `user`.
        corpus: the pages that say which fields and topics there are.
    """
    wanted = topic.strip().casefold()
    rows = {
        (page.field, page.subfield, name)
        for page in corpus.pages
        for name in page.topics
        if wanted in (page.field.casefold(), page.subfield.casefold(), name.casefold())
    }
    if not rows:
        return [topic_row("", "", topic.strip(), origin="user")]
    return [topic_row(*row, origin="corpus") for row in sorted(rows)]

"""Whether a request is settled: what the answers that the ledger holds to it come to.

The answers are read anew each time, so that a better reader finds more in what was paid for.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from pydantic import BaseModel

from cambrian_data.llm.exchange import LlmAnswer, Outcome
from cambrian_data.llm.faults import MAX_MESSAGE
from cambrian_data.llm.ledger import WrittenAnswer
from cambrian_data.llm.reading import read_answer
from cambrian_data.llm.visible import one_line


def verdict(
    key: str,
    written: Sequence[WrittenAnswer],
    schema: type[BaseModel],
    *,
    model: str,
    max_answers: int,
) -> LlmAnswer | None:
    """Return what became of a request; None where it has to be asked, or asked again.

    Settled is what has an answer that can be used, what the server refused to take, and what was
    answered `max_answers` times; then the last answer says what is wrong.

    Raises:
        ValueError: an answer in the ledger is no JSON.
    """
    found: tuple[Outcome, BaseModel | None, str] | None = None
    for answer in reversed(written):
        raw = orjson.loads(answer.raw)
        if answer.status != 200:
            found = "llm_error", None, one_line(str(raw["message"]), MAX_MESSAGE)
            break
        read = read_answer(raw, schema)
        if read[0] == "ok":
            found = read
            break
        if found is None and len(written) >= max_answers:
            found = read
    if found is None:
        return None
    costs = [answer.cost_usd for answer in written if answer.cost_usd is not None]
    return LlmAnswer(
        key=key,
        outcome=found[0],
        value=found[1],
        detail=found[2],
        model=model,
        prompt_tokens=sum(answer.prompt_tokens for answer in written),
        completion_tokens=sum(answer.completion_tokens for answer in written),
        cost_usd=sum(costs) if len(costs) == len(written) else None,
        from_ledger=True,
    )

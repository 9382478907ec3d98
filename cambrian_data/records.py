"""The contract between all stages: Arrow schemas, ids made from content, drops and progress.

Every table that a stage writes has its schema in `TABLES`; every id is the sha256 of what the
record says, never a counter, so that a second run finds its own rows again and a picture cannot be
given to another text. Depends on pyarrow and orjson alone, so that `cambrian_model` can use it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import orjson
import pyarrow as pa

IMAGE_TOKEN = "<image>"
"""Stands in a human turn where a picture is shown; as in the LLaVA and Cambrian data."""

CATEGORIES = ("code", "counting", "general", "language", "math", "ocr", "science")
"""Categories of the published mixture. A source that no recipe knows gets `other`."""


class UserError(ValueError):
    """A mistake that its user can mend; the message says what is wrong, the value, what to do."""


class RunFailed(RuntimeError):
    """A run that cannot end well, through no mistake in how it was started."""


@runtime_checkable
class Progress(Protocol):
    """Called by stages while they work; drawn by the command line, ignored by default."""

    def __call__(self, stage: str, done: int, total: int | None, **numbers: float) -> None: ...


def silent(stage: str, done: int, total: int | None, **numbers: float) -> None:
    """Show nothing: the progress of a stage that nobody watches."""


# ------------------------------------------------------------------------------------- ids


def canonical_json(value: Any) -> bytes:
    """Return the one JSON spelling of a value: keys sorted, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def content_id(*parts: Any) -> str:
    """Return the sha256 (hex) of JSON-able parts: equal parts give equal ids, everywhere."""
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def bytes_id(data: bytes) -> str:
    """Return the sha256 (hex) of raw bytes, such as a stored picture or a fetched page."""
    return hashlib.sha256(data).hexdigest()


def picture_key(image: Mapping[str, Any]) -> str:
    """Return what stands for a picture in ids: its hash, or its path where it was not read."""
    return image.get("sha256") or f"path:{image['path']}"


def sample_id(
    conversations: Sequence[Mapping[str, str]], images: Sequence[Mapping[str, Any]]
) -> str:
    """Return the id of a sample: the hash of its turns and its pictures, in order.

    The system prompt is left out: curation adds it later, and the sample stays the same one.
    """
    turns = [[turn["from"], turn["value"]] for turn in conversations]
    return content_id("sample", turns, [picture_key(image) for image in images])


def topic_id(field: str, subfield: str, topic: str) -> str:
    """Return the id of a topic; case and outer white space make no difference."""
    return content_id("topic", *(part.strip().casefold() for part in (field, subfield, topic)))


def page_id(url: str, content_sha256: str) -> str:
    """Return the id of a page as it was read: its final address and the hash of its content."""
    return content_id("page", url, content_sha256)


def figure_id(page: str, image_url: str, caption: str, section: Sequence[str]) -> str:
    """Return the id of a figure: the page, the picture's address, and what stands with it."""
    return content_id("figure", page, image_url, caption, list(section))


def draw(seed: int, *parts: Any) -> float:
    """Return a number in [0, 1) that depends on nothing but the seed and the parts.

    Every choice of the project is made with this, so that neither order nor workers matter.
    """
    digest = hashlib.sha256(canonical_json([seed, *parts])).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits: a float holds no more


# --------------------------------------------------------------------------------- schemas


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_IMAGE_REF = pa.struct(
    [("sha256", pa.string()), ("path", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
)
_TURN = pa.struct([_required("from", pa.string()), _required("value", pa.string())])
_ORIGIN = pa.struct([("file", pa.string()), ("line", pa.int64()), ("id", pa.string())])
_PROVENANCE = pa.struct(
    [
        ("page_id", pa.string()),
        ("page_url", pa.string()),
        ("revision", pa.string()),
        ("image_url", pa.string()),
        ("page_title", pa.string()),
        ("section", pa.list_(pa.string())),
        ("caption", pa.string()),
        ("license", pa.string()),
        ("author", pa.string()),
        ("retrieved_at", pa.string()),
        ("topic", pa.string()),
        ("field", pa.string()),
        ("subfield", pa.string()),
        ("query", pa.string()),
        ("hit_rank", pa.int32()),
        ("generator", pa.string()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("llm_key", pa.string()),
    ]
)

SAMPLE = pa.schema(
    [
        _required("id", pa.string()),
        _required("source", pa.string()),
        _required("dataset", pa.string()),
        _required("category", pa.string()),
        _required("images", pa.list_(_IMAGE_REF)),
        _required("conversations", pa.list_(_TURN)),
        ("system", pa.string()),
        ("figure_id", pa.string()),
        ("origin", _ORIGIN),
        ("provenance", _PROVENANCE),
        ("original", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float32())),
    ]
)
TOPIC = pa.schema(
    [
        _required("id", pa.string()),
        ("field", pa.string()),
        ("subfield", pa.string()),
        _required("topic", pa.string()),
        ("origin", pa.string()),
    ]
)
HIT = pa.schema(
    [
        _required("topic_id", pa.string()),
        _required("backend", pa.string()),
        _required("query", pa.string()),
        _required("rank", pa.int32()),
        _required("url", pa.string()),
        ("title", pa.string()),
        ("snippet", pa.string()),
    ]
)
PAGE = pa.schema(
    [
        _required("id", pa.string()),
        _required("url", pa.string()),
        _required("final_url", pa.string()),
        ("page_id", pa.string()),
        ("revision", pa.string()),
        ("status", pa.int32()),
        _required("content_sha256", pa.string()),
        ("title", pa.string()),
        ("language", pa.string()),
        ("fetched_at", pa.string()),
        ("license", pa.string()),
    ]
)
FIGURE = pa.schema(
    [
        _required("id", pa.string()),
        _required("page_id", pa.string()),
        _required("image_url", pa.string()),
        ("image_sha256", pa.string()),
        ("caption", pa.string()),
        ("alt", pa.string()),
        ("section", pa.list_(pa.string())),
        ("text", pa.string()),
        ("position", pa.int32()),
    ]
)
IMAGE = pa.schema(
    [
        _required("sha256", pa.string()),
        _required("path", pa.string()),
        _required("width", pa.int32()),
        _required("height", pa.int32()),
        ("format", pa.string()),
        ("bytes", pa.int64()),
        ("phash", pa.string()),
        ("source_url", pa.string()),
        ("license", pa.string()),
        ("license_url", pa.string()),
        ("author", pa.string()),
        ("description_url", pa.string()),
    ]
)
DROP = pa.schema(
    [
        _required("stage", pa.string()),
        _required("record_id", pa.string()),
        _required("reason", pa.string()),
        ("detail", pa.string()),
        ("source", pa.string()),
        ("origin", _ORIGIN),
        ("raw", pa.string()),
    ]
)
CLUSTER = pa.schema(
    [
        _required("stage", pa.string()),
        _required("cluster", pa.string()),
        _required("sample_id", pa.string()),
        _required("kept", pa.bool_()),
        ("similarity", pa.float32()),
    ]
)
MATCH = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("against", pa.string()),
        _required("kind", pa.string()),
        ("score", pa.float32()),
        ("matched_id", pa.string()),
    ]
)
LLM_CALL = pa.schema(
    [
        _required("key", pa.string()),
        ("model", pa.string()),
        ("status", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("seconds", pa.float64()),
        ("at", pa.string()),
    ]
)

TABLES: dict[str, pa.Schema] = {
    "topics": TOPIC,
    "hits": HIT,
    "pages": PAGE,
    "figures": FIGURE,
    "images": IMAGE,
    "samples": SAMPLE,
    "drops": DROP,
    "clusters": CLUSTER,
    "matches": MATCH,
    "llm_calls": LLM_CALL,
}


def table_of(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build a table of `TABLES` from rows.

    Args:
        name: the table's name in `TABLES`.
        rows: one mapping a row; a key that is left out is null.
    Raises:
        ValueError: a row has a key that the schema does not know, or lacks one that it requires.
    """
    schema = TABLES[name]
    rows = list(rows)
    known = set(schema.names)
    required = [field.name for field in schema if not field.nullable]
    for row in rows:
        if not row.keys() <= known:
            raise ValueError(f"{name} has no column {sorted(row.keys() - known)}")
        missing = [column for column in required if row.get(column) is None]
        if missing:
            raise ValueError(f"a row of {name} lacks {missing}: {str(row)[:300]}")
    return pa.Table.from_pylist(rows, schema=schema)


# ----------------------------------------------------------------------------------- drops

RAW_LIMIT = 2_000
"""Characters of the dropped line or record that are kept in `drop.raw`."""

_NOT_FETCHED = frozenset(
    {"missing", "refused", "unreachable", "server_error", "rate_limited", "robots"}
    | {"robots_unreachable", "opted_out", "private_address", "bad_address", "too_large"}
    | {"no_contact"}
)
_NOT_ANSWERED = frozenset({"refusal", "cut_off", "empty_answer", "malformed", "llm_error"})

DROP_REASONS: dict[str, frozenset[str]] = {
    "topics": _NOT_ANSWERED | {"duplicate", "unreadable"},
    "search": frozenset({"no_hits", "unavailable", "quota", "bad_address"}),
    "fetch": _NOT_FETCHED | {"not_html", "duplicate"},
    "extract": frozenset(
        {"no_caption", "short_caption", "short_text", "skipped_section", "duplicate", "no_figures"}
        | {"unreadable"}
    ),
    "images": _NOT_FETCHED
    | {"corrupt", "not_a_picture", "too_small", "bad_aspect", "hostile", "license"},
    "vqa": _NOT_ANSWERED | {"no_question", "duplicate", "ungrounded", "unfit", "surplus"},
    "ingest": frozenset(
        {
            "bad_json",
            "bad_encoding",
            "not_an_object",
            "no_conversation",
            "bad_turns",
            "no_answer",
            "empty_turn",
            "image_missing",
            "image_unreadable",
            "image_outside_folder",
            "image_token_mismatch",
            "bad_image",
            "too_large",
            "video",
            "audio",
            "preference",
            "tool_call",
            "damaged",
        }
    ),
    "checks": frozenset(
        {"empty_answer", "too_long", "image_token_mismatch", "too_many_turns", "bad_turns"}
    ),
    "quality": frozenset(
        {"few_words", "many_words", "short_answer", "long_answer", "few_turns", "many_turns"}
        | {"repeated_ngrams", "language", "non_letters", "cannot_see", "picture_size"}
        | {"picture_aspect", "low_score", "no_score"}
    ),
    "decontaminate": frozenset({"text_match", "picture_match"}),
    "picture_dedup": frozenset({"picture_duplicate"}),
    "exact_dedup": frozenset({"exact_duplicate"}),
    "near_dedup": frozenset({"near_duplicate"}),
    "mixture": frozenset({"over_cap", "over_ratio", "too_few"}),
}
"""The closed list of reasons a stage may drop a record for. A new reason is added here first."""


def drop(
    stage: str,
    record_id: str,
    reason: str,
    *,
    detail: str | None = None,
    source: str | None = None,
    origin: Mapping[str, Any] | None = None,
    raw: str | None = None,
) -> dict[str, Any]:
    """Return a row of the table `drops`.

    Raises:
        ValueError: the stage has no such reason in `DROP_REASONS`.
    """
    if reason not in DROP_REASONS.get(stage, ()):
        raise ValueError(f"stage {stage!r} has no drop reason {reason!r} in DROP_REASONS")
    return {
        "stage": stage,
        "record_id": record_id,
        "reason": reason,
        "detail": detail,
        "source": source,
        "origin": origin,
        "raw": raw[:RAW_LIMIT] if raw is not None else None,
    }

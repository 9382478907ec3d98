"""One row of an instruction set, in any of its usual shapes, to one shape; or why it is dropped.

LLaVA and ShareGPT rows (`conversations`, `from`, `value`) and OpenAI rows (`messages`, `role`,
`content`) are read. Every change to what a row says is a mend with a name of `MENDS`; what no mend
covers is dropped with its reason and its raw text. Pictures are paths here: none is opened.
Rows of other shapes are made into these by `shapes` first.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cambrian_data.curation.ingest.config import spelled_as_known
from cambrian_data.curation.ingest.formats.rows import FORMAT_MENDS
from cambrian_data.curation.ingest.lines import MAX_ROW_BYTES, RawLine
from cambrian_data.curation.ingest.path_rules import PATH_MENDS, PathRules
from cambrian_data.curation.ingest.shapes import SHAPE_MENDS, reshape
from cambrian_data.records import IMAGE_TOKEN, RAW_LIMIT, drop

MENDS = {
    **FORMAT_MENDS,
    **PATH_MENDS,
    **SHAPE_MENDS,
    "byte_order_mark": "a byte order mark in front of the row, as where files were joined",
    "content_parts": "content given as a list of parts; texts joined, picture parts made <image>",
    "image_list": "pictures given as a list",
    "image_token_added": "one picture, no <image>: put in front of the first question",
    "image_tokens_collapsed": "one picture, several <image> in a row: one of them left",
    "images_key": "pictures under `images` instead of `image`",
    "leading_answer": "an answer before the first question removed",
    "messages_key": "turns under `messages` instead of `conversations`",
    "no_picture_marker": 'image given as "", "None" or null: no picture',
    "not_strict_json": "NaN or Infinity, which JSON does not know, in the row",
    "number_id": "id given as a number, made a string",
    "path_normalised": "a picture's path with ./, // or a/../ in it",
    "role_names": "user, assistant and the like renamed human and gpt",
    "system_key": "a system prompt under `system` or `system_prompt`",
    "system_turn": "a first turn of the system moved to the sample's system prompt",
}
"""Everything that is changed in a row that is kept, and how."""

_ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "system": "system"}
_TOOL_ROLES = frozenset({"function", "function_call", "observation", "tool", "tool_call"})
NO_PICTURE = frozenset((None, "", "None", "none", "null"))
"""What stands under `image` in rows without a picture."""
NO_RULES = PathRules()
_BOM = b"\xef\xbb\xbf"
_IDENTITY = re.compile(r".+:(?![\s/\\])[^:]+", re.DOTALL)
_TOKEN_RUN = re.compile(rf"{IMAGE_TOKEN}(?:\s*{IMAGE_TOKEN})+")
_PICTURE_PARTS = ("image", "image_url")
TWO_FOLDERS = "hfdata"
"""Under this folder every folder is a data set of its own (the part from the Cauldron)."""


class RowError(Exception):
    """A row that cannot be used: a reason of `DROP_REASONS["ingest"]` and what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(slots=True)
class ParsedSample:
    """A row in its one shape; `images` are paths below the image folder, `turns` (who, text)."""

    raw: RawLine
    row_id: str | None = None
    source: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    system: str | None = None
    mended: set[str] = field(default_factory=set)
    text_of: Callable[[], bytes] | None = None
    """Gives the row as text where it is none; asked for when the row is dropped after all."""


def parse_row(
    raw: RawLine,
    file_name: str,
    *,
    rules: PathRules = NO_RULES,
    loaded: Mapping[str, Any] | None = None,
) -> ParsedSample | dict[str, Any]:
    """Return the sample that a row holds, or its row of the table `drops`.

    Args:
        raw: the row as `read_rows` gives it.
        file_name: stands for the source where the row names none, and in its origin.
        rules: how paths of pictures are changed before anything else is done with them.
        loaded: the row, where it is no JSON text; a drop then has no raw text.
    """
    sample = ParsedSample(raw)
    try:
        row = _load(raw.data, sample.mended) if loaded is None else loaded
        if row.get("conversations") is None and row.get("messages") is None:
            shaped = reshape(row)
            if shaped is not None:
                row, mends = shaped
                sample.mended |= mends
        sample.row_id = _row_id(row, sample.mended)
        sample.source = source_of(row.get("source"), file_name)
        _refuse_other_kinds(row)
        sample.system, turns = _split_system(row, _turns(row, sample.mended), sample.mended)
        sample.images = _pictures(row, sample.mended, rules)
        sample.source = source_of(row.get("source"), file_name, sample.images)
        sample.turns = _alternating(turns, sample.mended)
        _match_tokens(sample)
    except RowError as error:
        return drop_row(sample, file_name, error.reason, error.detail)
    return sample


def drop_row(sample: ParsedSample, file_name: str, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of `drops` for a row of a file, with its raw text (capped)."""
    raw = sample.raw
    text = sample.text_of() if sample.text_of is not None else raw.data
    return drop(
        "ingest",
        f"{file_name}:{raw.line}",
        reason,
        detail=detail,
        source=sample.source or None,
        origin={"file": file_name, "line": raw.line, "id": sample.row_id},
        raw=text[: 4 * RAW_LIMIT].decode("utf-8", errors="replace"),
    )


def source_of(value: Any, file_name: str, images: Sequence[str] = ()) -> str:
    """Return a source's identity: the row's `source` as it is, and the picture's first folder.

    One published file holds several data sets, told apart by the folder of their pictures alone.
    A source of the form NAME:FOLDER is an identity already, such as one that was exported from
    here; `Set: a name` and addresses, which have a colon too, are none.
    """
    name = value if isinstance(value, str) and value.strip() else file_name
    if _IDENTITY.fullmatch(name):
        return name
    folders = images[0].split("/")[:-1] if images else []
    depth = 2 if folders[:1] == [TWO_FOLDERS] else 1
    return spelled_as_known(f"{name}:{'/'.join(folders[:depth])}" if folders else name)


# ------------------------------------------------------------------------- reading one row


def _load(data: bytes, mended: set[str]) -> dict[str, Any]:
    if len(data) > MAX_ROW_BYTES:
        raise RowError("too_large", f"more than {MAX_ROW_BYTES} bytes")
    if data.startswith(_BOM):
        data = data.removeprefix(_BOM)
        mended.add("byte_order_mark")
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError:
        row = _load_leniently(data)
        mended.add("not_strict_json")
    if not isinstance(row, dict):
        raise RowError("not_an_object", f"the row is a {type(row).__name__}")
    return row


def _load_leniently(data: bytes) -> Any:
    """Read what Python's json writes and JSON does not know; lone surrogates stay an error."""
    if b"\0" in data:
        raise RowError("bad_encoding", "there are null bytes in the row, as in UTF-16 text")
    try:
        row = json.loads(data.decode("utf-8"))
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise RowError("bad_encoding", str(error)[:200]) from None
    except (ValueError, RecursionError) as error:
        raise RowError("bad_json", str(error)[:200]) from None
    return row


def _row_id(row: Mapping[str, Any], mended: set[str]) -> str | None:
    value = row.get("id")
    if isinstance(value, int | float) and not isinstance(value, bool):
        mended.add("number_id")
        return str(value)
    return value if isinstance(value, str) else None


def _refuse_other_kinds(row: Mapping[str, Any]) -> None:
    for kind in ("video", "audio"):
        if row.get(kind) or row.get(f"{kind}s"):
            raise RowError(kind, f"the row has a {kind}")
    if "chosen" in row or "rejected" in row:
        raise RowError("preference", "the row has a chosen and a rejected answer")
    if row.get("tools") and row["tools"] not in ("[]", "{}"):
        raise RowError("tool_call", "the row offers tools")


# -------------------------------------------------------------------------------- pictures


def _pictures(row: Mapping[str, Any], mended: set[str], rules: PathRules) -> list[str]:
    """Return the normalised paths of a row's pictures, in order."""
    found = _listed(row, "image", mended)
    others = _listed(row, "images", mended)
    if others and found != others:
        mended.add("images_key")
        found = found + [value for value in others if value not in found] if found else others
    found = found or _in_turns(row)
    ruled = [rules.apply(value) if isinstance(value, str) else value for value in found]
    if ruled != found:
        mended.add("path_rule")
    paths = [normal_path(value) for value in ruled]
    if paths != ruled:
        mended.add("path_normalised")
    return paths


def _listed(row: Mapping[str, Any], key: str, mended: set[str]) -> list[Any]:
    if key not in row:
        return []
    value = row[key]
    if isinstance(value, list):
        mended.add("image_list")
    values = value if isinstance(value, list) else [value]
    real = [one for one in values if not (isinstance(one, str | None) and one in NO_PICTURE)]
    if len(real) < len(values):
        mended.add("no_picture_marker")
    return real


def _in_turns(row: Mapping[str, Any]) -> list[Any]:
    """Return the pictures that parts of the turns' content name, as OpenAI's messages do."""
    turns = row.get("conversations") or row.get("messages")
    found = []
    for turn in turns if isinstance(turns, list) else ():
        content = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in _PICTURE_PARTS:
                value = part.get("image_url", part.get("image"))
                found.append(value.get("url") if isinstance(value, dict) else value)
    return [value for value in found if value is not None]


def normal_path(value: Any) -> str:
    """Return a path below the image folder in its shortest form.

    Raises:
        RowError: no path at all, an address, or a path that leads out of the folder.
    """
    if not isinstance(value, str) or "\0" in value or "://" in value or value.startswith("data:"):
        raise RowError("bad_image", f"a picture is a path in the image folder, not {value!r:.200}")
    path = posixpath.normpath(value)
    slashed = posixpath.normpath(value.replace("\\", "/"))
    if slashed.startswith("/") or slashed.split("/")[0] == ".." or slashed[1:3] == ":/":
        raise RowError("image_outside_folder", value[:200])
    if path == ".":
        raise RowError("bad_image", f"{value!r} names no file")
    return path


# ----------------------------------------------------------------------------------- turns


def _turns(row: Mapping[str, Any], mended: set[str]) -> list[tuple[str, str]]:
    turns = row.get("conversations")
    if turns is None and row.get("messages") is not None:
        turns = row["messages"]
        mended.add("messages_key")
    if not isinstance(turns, list) or not turns:
        seen = "null" if turns is None else f"{turns!r:.50}"
        raise RowError("no_conversation", f"the turns are {seen}; the row has {sorted(row)!r:.200}")
    return [_turn(turn, mended) for turn in turns]


def _turn(turn: Any, mended: set[str]) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise RowError("bad_turns", f"a turn is a {type(turn).__name__}, not an object")
    name = turn.get("from", turn.get("role"))
    value = turn.get("value", turn.get("content"))
    known = name.strip().lower() if isinstance(name, str) else ""
    if known in _TOOL_ROLES or turn.get("tool_calls"):
        raise RowError("tool_call", f"a turn of {name!r:.50} calls a tool")
    role = _ROLES.get(known)
    if role is None:
        raise RowError("bad_turns", f"a turn is from {name!r:.50}")
    if role != name:
        mended.add("role_names")
    if isinstance(value, list):
        mended.add("content_parts")
        value = "".join(_part_text(part) for part in value)
    if not isinstance(value, str):
        raise RowError("bad_turns", f"the text of a turn is {value!r:.50}")
    return role, value


def _part_text(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text", part.get("value")) if isinstance(part, dict) else part
    if kind in _PICTURE_PARTS:
        return IMAGE_TOKEN
    if kind in (None, "text") and isinstance(text, str):
        return text
    raise RowError("bad_turns", f"a part of a turn's content is {part!r:.100}")


def _split_system(
    row: Mapping[str, Any], turns: list[tuple[str, str]], mended: set[str]
) -> tuple[str | None, list[tuple[str, str]]]:
    prompts = [
        row[key]
        for key in ("system", "system_prompt")
        if isinstance(row.get(key), str) and row[key].strip()
    ]
    if prompts:
        mended.add("system_key")
    if turns[0][0] == "system":
        mended.add("system_turn")
        prompts += [turns[0][1]] if turns[0][1].strip() else []
        turns = turns[1:]
    return "\n".join(prompts) or None, turns


def _alternating(turns: list[tuple[str, str]], mended: set[str]) -> list[tuple[str, str]]:
    """Return the turns as question and answer by turns, or say what is wrong with them."""
    if turns and turns[0][0] == "gpt":
        mended.add("leading_answer")
        turns = turns[1:]
    if not any(role == "gpt" for role, _ in turns):
        raise RowError("no_answer", "no question is answered")
    for number, (role, text) in enumerate(turns):
        if role != ("gpt" if number % 2 else "human"):
            raise RowError("bad_turns", f"turn {number} is from {role} again")
        if not text.strip():
            raise RowError("empty_turn", f"turn {number} ({role}) has no text")
    if len(turns) % 2:
        raise RowError("no_answer", "the last question is not answered")
    return turns


def _match_tokens(sample: ParsedSample) -> None:
    """Bring the number of `<image>` in the questions in line with the pictures, where safe."""
    turns = sample.turns
    if any(IMAGE_TOKEN in text for _, text in turns[1::2]):
        raise RowError("image_token_mismatch", f"{IMAGE_TOKEN} stands in an answer")
    tokens, pictures = _count_tokens(turns), len(sample.images)
    if pictures == 1 and tokens == 0:
        turns[0] = (turns[0][0], f"{IMAGE_TOKEN}\n{turns[0][1]}")
        sample.mended.add("image_token_added")
    elif pictures == 1 and tokens > 1:
        turns[:] = [(role, _TOKEN_RUN.sub(IMAGE_TOKEN, text)) for role, text in turns]
        sample.mended.add("image_tokens_collapsed")
    if _count_tokens(turns) != pictures:
        raise RowError("image_token_mismatch", f"{tokens} {IMAGE_TOKEN} for {pictures} pictures")


def _count_tokens(turns: Sequence[tuple[str, str]]) -> int:
    return sum(text.count(IMAGE_TOKEN) for _, text in turns)

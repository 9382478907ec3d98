"""A call that gave no answer: what kind of fault it is, and how long to wait.

Pure functions over status, headers and body. Passing faults are tried again; a trait that a server
lacks is gone without from then on; the rest ends the request, or the run where the next request
would fare no better.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from cambrian_data.llm.bodies import COMPLETION_TOKENS, NO_SEED, NO_TEMPERATURE, PATH, PLAIN
from cambrian_data.llm.reading import read_json
from cambrian_data.llm.visible import one_line
from cambrian_data.records import RunFailed, UserError

MAX_MESSAGE = 500
MAX_WAIT_S = 1e9
"""A server that asks to wait longer asks to wait for ever."""
TOO_LARGE, UNREACHABLE = "too_large", "unreachable"
"""Words of replies: longer than is read, and none because nothing took the connection."""

Kind = Literal[
    "passing",
    "rate",
    "quota",
    "denied",
    "no_model",
    "redirect",
    "trait",
    "blind",
    "rejected",
    "budget",
]

_QUOTA = re.compile(
    r"insufficient_quota|billing|exceeded your current quota|insufficient.{0,12}(?:balance|credits?"
    r"|funds)|payment required|hard limit",
    re.I,
)
_BLIND = re.compile(
    r"image_url is only supported by certain models|not (?:a )?multimodal|at most 0 image"
    r"|(?:does|do) not support (?:image|vision|multimodal|picture)"
    r"|(?:image|vision|multimodal)[a-z ]{0,20}(?:is|are) not supported by th",
    re.I,
)
_AGAIN_IN = re.compile(r"(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)", re.I)
_REDIRECTS = (301, 302, 303, 307, 308)
_UNSUPPORTED = re.compile(r"unsupported|not support|unknown|unrecognized|not permitted|deprecated")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from the server; status 0: nothing did, and `word` says why.

    With a status there is a word only where the body was not read whole.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Found by names in lower case."""
    word: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a call gave no answer."""

    kind: Kind
    message: str
    word: str
    """Short, for the ledger: the status, `time_out`, `connection`, `cut`."""
    wait_s: float | None = None
    """How long the server asks to wait."""
    trait: str = ""


def fault_of(reply: Reply, *, now_s: float) -> Fault | None:
    """Return what is wrong with a reply; None where it is an answer of the model.

    Args:
        reply: what came back.
        now_s: seconds since the epoch, for waits that are given as dates.
    """
    if not reply.status:
        return Fault("passing", reply.word, reply.word.split(":")[0])
    answer = None if reply.word else read_json(reply.body)
    if reply.status == 200 and not (answer or {}).get("error") and not _is_cut(reply, answer):
        return None
    location = reply.headers.get("location", "")
    if reply.status in _REDIRECTS and location:
        return Fault("redirect", one_line(location, MAX_MESSAGE), str(reply.status))
    word, message, code, param = _explain(reply, answer)
    wait_s = wait_of(reply.headers, now_s)
    asked = _AGAIN_IN.search(message)
    if wait_s is None and asked:
        wait_s = _duration(asked[1])
    if reply.status == 402 or "insufficient_quota" in code or "billing" in code:
        return Fault("quota", message, word)
    if reply.status in (200, 403, 429) and wait_s is None and _QUOTA.search(message):
        return Fault("quota", message, word)  # with a wait it is a limit of each minute
    if reply.status == 429 or (reply.status == 200 and code in ("429", "rate_limit_exceeded")):
        return Fault("rate", message, word, wait_s)
    if reply.status in (401, 403):
        return Fault("denied", message, word)
    if reply.status in (404, 405, 501, 505):
        return Fault("no_model", message, word)
    if reply.status in (400, 422):
        trait = _trait(message.casefold(), code.casefold(), param.casefold())
        if trait:
            return Fault("trait", message, word, trait=trait)
        return Fault("blind" if _BLIND.search(message) else "rejected", message, word)
    if reply.status in (200, 408, 409, 425) or reply.status >= 500:
        return Fault("passing", message, word, wait_s)
    return Fault("rejected", message, word)


def _is_cut(reply: Reply, answer: Mapping[str, Any] | None) -> bool:
    """Whether the connection may have broken within JSON: nothing says where the body ends."""
    has_end = "content-length" in reply.headers or "transfer-encoding" in reply.headers
    return answer is None and not (has_end or reply.word) and reply.body.lstrip()[:1] in (b"{", b"")


def fatal_error(
    fault: Fault, *, server: str, model: str, names: Sequence[str]
) -> UserError | RunFailed:
    """Return the error that ends the run after a fault, with what to do.

    Args:
        fault: of one of the kinds quota, denied, blind, redirect and no_model.
        server: its address.
        model: the one that was asked.
        names: the models that the server has, where it says.
    """
    if fault.kind == "quota":
        return RunFailed(
            f"the account at {server} has no quota left ({fault.message}). Add credit or raise its "
            "limit, then start the same command again; answers that were paid for are kept"
        )
    if fault.kind == "denied":
        return UserError(
            f"the server at {server} does not accept the key in OPENAI_API_KEY ({fault.message}): "
            f"set one that may use {model}"
        )
    if fault.kind == "blind":
        return UserError(
            f"the model {model} at {server} takes no pictures ({fault.message}): set "
            "vqa.llm.show_picture=never, or take a model that sees"
        )
    if fault.kind == "redirect":
        return UserError(
            f"the server at {server} answers with a redirect to {_target(server, fault.message)}: "
            "set OPENAI_BASE_URL to it if it is yours"
        )
    if not names or model in names:
        return UserError(
            f"the server at {server} serves no chat completions of {model} ({fault.message}): "
            "check OPENAI_BASE_URL, which mostly ends in /v1, and the model's name"
        )
    listed = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
    return UserError(
        f"the server at {server} has no model {model!r} ({fault.message}); it has: {listed}"
    )


def silence_error(fault: Fault, *, server: str, silent_s: float, is_nowhere: bool) -> RunFailed:
    """Return the error that ends the run when a server answers nobody.

    Args:
        fault: the last one.
        server: its address.
        silent_s: for how long.
        is_nowhere: whether nothing ever took a connection there.
    """
    kept = "start the same command again; answers that were paid for are kept"
    if is_nowhere:
        return RunFailed(
            f"the server at {server} has answered nothing: it cannot be reached ({fault.message}). "
            f"Start it, or set OPENAI_BASE_URL (or llm.base_url) to where it is, then {kept}"
        )
    return RunFailed(
        f"the server at {server} has answered nothing for {silent_s:.0f} s (the last fault: "
        f"{fault.message}). When it does, {kept}"
    )


def _target(server: str, location: str) -> str:
    """Return the address of the server that a redirect leads to."""
    try:
        address = urljoin(server + PATH, location)
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix(PATH)}"
    except ValueError:
        return repr(location)


def wait_of(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return how many seconds a server asks to wait; None where it does not ask."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    after = headers.get("retry-after", "")
    seconds = _number(after)
    if seconds is not None:
        return seconds
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - now_s)
        except (ValueError, OverflowError):
            pass
    return reset_of(headers)


def reset_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a limit that is used up is set back, by `x-ratelimit-` headers."""
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _explain(reply: Reply, answer: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    """Return word, message, code and parameter of a reply that is no answer."""
    if answer is None and reply.status == 200:
        return "cut", "cut: the answer is only half of its JSON", "", ""
    error: Any = (answer or {}).get("error") or answer or {}
    if not isinstance(error, dict):
        error = {"message": str(error)}
    text = error.get("message") or error.get("detail")
    text = str(text) if text else reply.body[: 4 * MAX_MESSAGE].decode("utf-8", "replace")
    word = str(reply.status) if reply.status != 200 else "error"
    code, param = str(error.get("code") or ""), str(error.get("param") or "")
    return word, f"{word}: {one_line(text, MAX_MESSAGE)}", code, param


def _trait(message: str, code: str, param: str) -> str:
    """Return what a server says it does not know; empty where it complains of something else."""
    format_words = ("response_format", "json_schema", "guided_json", "structured output")
    if param.startswith("response_format") or any(word in message for word in format_words):
        is_this_schema = code == "invalid_json_schema" or "invalid schema" in message
        return f"{PLAIN}:" if is_this_schema else PLAIN
    is_unsupported = code.startswith("unsupported") or bool(_UNSUPPORTED.search(message))
    if not is_unsupported:
        return ""
    if "max_completion_tokens" in message or param == "max_tokens":
        return COMPLETION_TOKENS
    for name, trait in (("temperature", NO_TEMPERATURE), ("seed", NO_SEED)):
        if param == name or re.search(rf"\b{name}\b", message):
            return trait
    return ""


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return min(number, MAX_WAIT_S) if number >= 0 else None  # no number is not >= 0 either


def _duration(text: str) -> float | None:
    """Return the seconds of `6m0s`, `20ms`, `1.5s` or a plain number."""
    parts = _DURATION.findall(text)
    if not parts:
        return _number(text)
    return min(sum(float(number) * _SECONDS[unit] for number, unit in parts), MAX_WAIT_S)

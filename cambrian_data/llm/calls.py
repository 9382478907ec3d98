"""The asynchronous half of the LLM client: one request from its first sending to its outcome.

Everything here runs on one event loop, but for the counters, which are read from other threads.
A slot is held from before a sending is written down until its answer is, so that a kill leaves at
most as many sendings without a word as calls may be open.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

import orjson
from pydantic import BaseModel

from cambrian_data.llm.bodies import PLAIN, Encoded, Encoder, form_for, schema_name
from cambrian_data.llm.budget import Budget
from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.exchange import Counts, LlmAnswer, LlmRequest, Outcome
from cambrian_data.llm.faults import (
    TOO_LARGE,
    UNREACHABLE,
    Fault,
    Reply,
    fatal_error,
    fault_of,
    reset_of,
    silence_error,
)
from cambrian_data.llm.ledger import Ledger, Sending, WrittenAnswer
from cambrian_data.llm.limits import Gate, Pace
from cambrian_data.llm.prices import Prices
from cambrian_data.llm.reading import USELESS, read_answer, read_to_keep, read_usage
from cambrian_data.llm.settled import verdict
from cambrian_data.llm.writing import GroupWriter
from cambrian_data.records import RunFailed

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 60.0
MAX_UNREACHABLE = 3
"""Tries to reach a server that never answered: where nothing listens, more would not help."""

_TOO_LONG = "the answer is too long"
logger = logging.getLogger(__name__)

Written = list[WrittenAnswer]


class Connection(Protocol):
    """A way to the server."""

    base_url: str

    async def send(self, body: bytes) -> Reply: ...

    async def models(self) -> tuple[list[str], str]: ...

    async def close(self) -> None: ...


class Caller:
    """Asks one model of one server, many requests at once."""

    def __init__(
        self,
        config: LlmConfig,
        ledger: Ledger,
        connection: Connection,
        *,
        encoder: Encoder,
        model: str,
        prices: Prices,
        budget_usd: float | None,
    ) -> None:
        self.counts = Counts()
        self.budget = Budget(budget_usd)
        self.stop = asyncio.Event()
        self.failure: BaseException | None = None
        self._config, self._ledger, self._connection = config, ledger, connection
        self._writer = GroupWriter(ledger)
        self._encoder, self._model, self._prices = encoder, model, prices
        self._traits = ledger.traits(connection.base_url, model)
        self._gate = Gate(config.max_open_calls)
        self._pace = Pace(config.requests_per_minute, config.tokens_per_minute)
        self._asked: set[str] = set()
        self._keys: dict[str, tuple[asyncio.Lock, int]] = {}
        self._has_answered = self._is_there = False
        self._warned: set[str] = set()
        self._silent_since: float | None = None
        self._jitter = random.Random()

    # ----------------------------------------------------------------------------- deciding

    def encode(self, request: LlmRequest) -> Encoded:
        """Return a request in the form that the server is known to take."""
        return self._encoder.encode(request, form_for(self._traits, request.schema))

    def look_up(self, request: LlmRequest, call: Encoded) -> tuple[LlmAnswer | None, Written]:
        """Return the settled answer of the ledger, and all answers to this call; any thread.

        A request in the form from before the server refused a part of it counts as well.
        """
        written = self._ledger.answers(call.key)
        known = self._verdict(call.key, written, request)
        if known is None and call.first_key != call.key:
            first = self._ledger.answers(call.first_key)
            known = self._verdict(call.first_key, first, request)
        return known, written

    def _verdict(self, key: str, written: Written, request: LlmRequest) -> LlmAnswer | None:
        try:
            return verdict(
                key,
                written,
                request.schema,
                model=self._model,
                max_answers=self._config.max_answers,
            )
        except (ValueError, KeyError):
            raise self._ledger.damaged(f"an answer to {key} is no JSON") from None

    def fail(self, failure: BaseException) -> None:
        """Let nothing more be sent; what is open comes to its end."""
        if self.failure is None:
            self.failure = failure
        self.stop.set()

    async def answer(self, request: LlmRequest, call: Encoded, written: Written) -> LlmAnswer:
        """Ask until there is an answer, and return it.

        Args:
            request: what is asked.
            call: the same, as it is sent.
            written: the answers of no use that it had before.
        Raises:
            UserError: the server cannot be asked like this.
            RunFailed: the server does not answer, or is owed money.
        """
        try:
            async with self._alone(call.key):
                return await self._answer(request, call, list(written))
        except asyncio.CancelledError:
            raise
        except BaseException as failure:
            self.fail(failure)
            raise

    async def _answer(self, request: LlmRequest, call: Encoded, written: Written) -> LlmAnswer:
        num_sent = num_faults = 0
        known: LlmAnswer | None = None
        if call.key in self._asked:  # by another task, after this one was looked up
            known, written = self.look_up(request, call)
        while known is None:
            self._check()
            form = form_for(self._traits, request.schema)
            if form != call.form:  # it may have been answered in the form that is right now
                call = self._encoder.encode(request, form)
                known, written = self.look_up(request, call)
                continue
            self._asked.add(call.key)
            fault = await self._send(request, call, written, is_retry=num_sent > 0)
            num_sent += 1
            if fault is None or fault.kind == "rejected":
                self._has_answered, self._silent_since = True, None
                known = self._verdict(call.key, written, request)
                if known is None and USELESS in written[-1].raw:
                    detail = str(orjson.loads(written[-1].raw)[USELESS])
                    self._warn(USELESS, detail, len(written) + 1, self._config.max_answers)
                continue
            if fault.kind == "budget":
                self.counts.over_budget += 1
                return self._without(call, "over_budget", fault.message)
            if fault.kind == "trait":
                self._learn(fault.trait)
                continue
            if fault.kind not in ("passing", "rate"):
                names, _ = await self._connection.models() if fault.kind == "no_model" else ([], "")
                raise fatal_error(
                    fault, server=self._connection.base_url, model=self._model, names=names
                )
            num_faults += 1
            self._silent_since = self._silent_since or time.monotonic()
            tries = self._tries(fault)
            if num_faults >= tries:
                self._check_silence(fault)
                return self._without(call, "llm_error", fault.message)
            self._warn(fault.word, fault.message, num_faults + 1, tries)
            await self._back_off(fault, num_faults)
        return replace(known, from_ledger=num_sent == 0)

    def _without(self, call: Encoded, outcome: Outcome, detail: str) -> LlmAnswer:
        """Return the answer of a request that got none, and may get one in a later run."""
        return LlmAnswer(
            key=call.key, outcome=outcome, detail=detail, model=self._model, is_passing=True
        )

    # ------------------------------------------------------------------------------ sending

    async def _send(
        self, request: LlmRequest, call: Encoded, written: Written, *, is_retry: bool
    ) -> Fault | None:
        """Send once, and write down what comes of it; return what went wrong."""
        prompt_tokens = self.budget.safe_tokens(call.prompt_tokens)
        most_usd = self._prices.cost(self._model, prompt_tokens, call.max_tokens) or 0.0
        async with self._gate:
            await self._wait_for_turn(call.prompt_tokens + call.max_tokens)
            self._check()
            if not await self.budget.reserve(most_usd):
                self._pace.correct(-call.prompt_tokens - call.max_tokens)
                return Fault("budget", "the budget does not reach for this request", "budget")
            paid_usd = 0.0
            try:
                self._check()
                sending = await self._writer.write(self._ledger.sending(call))
                self.counts.sent += 1
                self.counts.retries += is_retry
                self.counts.repeated += sending.is_repeat
                self.counts.open += 1
                try:
                    reply = await self._connection.send(call.body)
                finally:
                    self.counts.open -= 1
                self._is_there = self._is_there or reply.status > 0
                fault = self._judge(call, request.schema, reply)
                if fault is None:
                    answer = await self._write_answer(request, call, sending, reply)
                    paid_usd = answer.cost_usd or 0.0
                    written.append(answer)
                elif fault.kind == "rejected":
                    written.append(await self._write_rejection(sending, reply, fault))
                else:
                    await self._writer.write(self._ledger.fault(sending, fault.word))
                    self._pace.correct(-call.prompt_tokens - call.max_tokens)
                return fault
            finally:
                await self.budget.settle(most_usd, paid_usd)

    async def _wait_for_turn(self, tokens: int) -> None:
        await self._sleep(self._pace.book(tokens, time.monotonic()))
        while self._pace.paused_s(time.monotonic()) > 0:  # all who wait must not start at its end
            self._pace.correct(-tokens)
            await self._sleep(self._pace.book(tokens, time.monotonic()))

    async def _write_answer(
        self, request: LlmRequest, call: Encoded, sending: Sending, reply: Reply
    ) -> WrittenAnswer:
        """Write an answer down."""
        answer, raw = read_to_keep(reply.body, fault=_TOO_LONG if reply.word == TOO_LARGE else "")
        outcome, _, _ = read_answer(answer, request.schema)
        usage = read_usage(answer, call.prompt_tokens)
        if usage.is_estimated:
            most = min(usage.completion_tokens, call.max_tokens)
            usage = replace(usage, completion_tokens=most)
        cost_usd = self._prices.cost(
            self._model,
            usage.prompt_tokens,
            usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )
        note = self._ledger.answer(
            sending,
            outcome=outcome,
            status=reply.status,
            raw=raw,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            is_estimated=usage.is_estimated,
            cost_usd=cost_usd,
            seconds=reply.seconds,
        )
        written: WrittenAnswer = await self._writer.write(note)
        self.counts.answers[outcome] += 1
        self.counts.prompt_tokens += usage.prompt_tokens
        self.counts.completion_tokens += usage.completion_tokens
        self.budget.learn(call.prompt_tokens, usage.prompt_tokens)
        self._gate.widen()
        taken = usage.prompt_tokens + usage.completion_tokens
        self._pace.correct(taken - call.prompt_tokens - call.max_tokens)
        reset_s = reset_of(reply.headers)
        if reset_s is not None:
            self._pace.pause(time.monotonic() + min(reset_s, self._config.max_wait_s))
        return written

    async def _write_rejection(self, sending: Sending, reply: Reply, fault: Fault) -> WrittenAnswer:
        """Write down that the server will not answer this request, however often it is asked."""
        raw = orjson.dumps({"message": fault.message})
        note = self._ledger.answer(
            sending, outcome="llm_error", status=reply.status, raw=raw, cost_usd=0.0
        )
        written: WrittenAnswer = await self._writer.write(note)
        self.counts.answers["llm_error"] += 1
        return written

    # ------------------------------------------------------------------------------- faults

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or less where the run ends meanwhile."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self.stop.wait(), seconds)
            except TimeoutError:
                return
            self._check()

    def _tries(self, fault: Fault) -> int:
        """Return how often a request may end in a fault before it is given up."""
        if fault.word == UNREACHABLE and not self._is_there:
            return min(MAX_UNREACHABLE, self._config.max_tries)
        return self._config.max_tries

    def _warn(self, kind: str, message: str, number: int, most: int) -> None:
        """Say why it takes so long; once for each kind of fault."""
        if kind not in self._warned:
            self._warned.add(kind)
            server = self._connection.base_url
            again = f"asked again, try {number} of {most}"
            logger.warning("the LLM's server at %s: %s; %s", server, message, again)

    async def _back_off(self, fault: Fault, num_faults: int) -> None:
        """Wait as the server asks, else longer each time; after a 429 all callers wait."""
        backoff_s = min(FIRST_BACKOFF_S * 2 ** (num_faults - 1), MAX_BACKOFF_S)
        backoff_s *= 0.5 + self._jitter.random()
        wait_s = fault.wait_s or 0.0
        if wait_s > self._config.max_wait_s:
            raise RunFailed(
                f"the server at {self._connection.base_url} asks to wait {wait_s:.0f} s, longer "
                f"than llm.max_wait_s ({self._config.max_wait_s:.0f} s): {fault.message}. Start "
                "the same command again then; answers that were paid for are kept"
            )
        if fault.kind == "rate":
            now = time.monotonic()
            if not self._pace.paused_s(now):
                self._gate.narrow()
            self._pace.pause(now + (wait_s or backoff_s))
            backoff_s *= 0.1  # what is left: those who wait do not all start at once
        await self._sleep(wait_s + backoff_s if wait_s else backoff_s)

    def _check_silence(self, fault: Fault) -> None:
        """Raise where the server answers nobody: the next request would fare no better."""
        silent_s = time.monotonic() - (self._silent_since or 0.0)
        is_away = not self._has_answered and fault.word == "connection"
        is_nowhere = fault.word == UNREACHABLE and not self._is_there
        if is_away or is_nowhere or silent_s > self._config.max_silence_s:
            server = self._connection.base_url
            raise silence_error(fault, server=server, silent_s=silent_s, is_nowhere=is_nowhere)

    def _judge(self, call: Encoded, schema: type[BaseModel], reply: Reply) -> Fault | None:
        """Return what is wrong; a trait that the call did without cannot be the reason."""
        fault = fault_of(reply, now_s=time.time())
        if fault is not None and fault.kind == "blind" and not call.has_pictures:
            return replace(fault, kind="rejected")
        if fault is None or fault.kind != "trait":
            return fault
        trait = f"{fault.trait}{schema_name(schema)}" if fault.trait.endswith(":") else fault.trait
        is_plain = any(name.startswith(PLAIN) for name in call.form)
        if trait in call.form or (trait.startswith(PLAIN) and is_plain):
            return replace(fault, kind="rejected")
        return replace(fault, trait=trait)

    def _learn(self, trait: str) -> None:
        """Remember what the server does not know, in the ledger too."""
        if trait not in self._traits:
            self._traits = self._traits | {trait}
            self._ledger.learn(self._connection.base_url, self._model, trait)

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Let one task at a time ask a request: the next finds the answer in the ledger."""
        lock, users = self._keys.get(key, (asyncio.Lock(), 0))
        self._keys[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._keys[key]
            if users == 1:
                del self._keys[key]
            else:
                self._keys[key] = (lock, users - 1)

"""A language model behind an OpenAI-compatible server: asked from any thread, paid once.

`LlmClient.ask` takes requests and blocks until each has an answer; the calls run on one event loop
in a thread of its own. Every sending and every answer is written to the ledger first, so that the
same request never costs twice, in this run or a later one. Bodies are made as they are needed: at
most twice `max_open_calls` are in memory, however many requests there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from cambrian_data.llm.bodies import Encoded, Encoder
from cambrian_data.llm.calls import Caller, Written
from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.connection import OpenAiConnection
from cambrian_data.llm.exchange import LlmAnswer, LlmRequest, Outcome, Plan, Spend
from cambrian_data.llm.ledger import Ledger
from cambrian_data.llm.prices import Prices, load_prices
from cambrian_data.records import Progress, RunFailed, UserError, silent

__all__ = ["LlmAnswer", "LlmClient", "LlmConfig", "LlmRequest", "Outcome", "Plan", "Spend"]

CLOSE_S = 5.0
POLL_S = 0.5
CLOSED = "the LLM client was closed"

OnAnswer = Callable[[int, LlmAnswer], None]


class LlmClient:
    """Asks one model of one server."""

    def __init__(
        self,
        config: LlmConfig,
        ledger: Ledger,
        *,
        model: str,
        base_url: str,
        api_key: str,
        prices: Prices | None = None,
        budget_usd: float | None = None,
        progress: Progress = silent,
    ) -> None:
        """Make ready; nothing is sent before the first request that the ledger cannot answer.

        Args:
            config: the section `llm` of the recipe.
            ledger: where all is written down; closed by its owner, after the client.
            model: the model's name, as the server knows it.
            base_url: the server's address, up to `/v1`.
            api_key: goes into a header and nowhere else.
            prices: what models cost; the shipped list where it is left out.
            budget_usd: never passed by this client. None: no limit.
            progress: called as `llm` in the asking threads, with the numbers of `spend`.
        Raises:
            UserError: there is a budget, but no price for the model.
        """
        self.config, self.model, self.base_url = config, model, base_url.rstrip("/")
        self.prices = prices or load_prices()
        if budget_usd is not None and not self.prices.has_price(model):
            raise UserError(
                f"a budget needs a price, and that of {model!r} is not known: write it into "
                f"{self.prices.where_to_add()} as `models: {{{model}: {{input: 0.5, output: 2}}}}` "
                "(USD per million tokens; 0 where it costs nothing), or ask without a budget"
            )
        self._ledger, self._progress = ledger, progress
        self._encoder = Encoder(
            config, model=model, base_url=self.base_url, rule=self.prices.picture_rule(model)
        )
        self._connection = OpenAiConnection(
            base_url, api_key, timeout_s=config.timeout_s, max_open=config.max_open_calls
        )
        self._caller = Caller(
            config,
            ledger,
            self._connection,
            encoder=self._encoder,
            model=model,
            prices=self.prices,
            budget_usd=budget_usd,
        )
        self._room = threading.Semaphore(2 * config.max_open_calls)
        self._lock = threading.Lock()
        self._used: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def can_see(self) -> bool:
        """Whether the model takes pictures, as its price list or its name says."""
        return bool(self.prices.can_see(self.model))

    # ------------------------------------------------------------------------------- asking

    def ask(
        self, requests: Iterable[LlmRequest], on_answer: OnAnswer | None = None
    ) -> list[LlmAnswer]:
        """Ask, wait for all answers, and return them in the order of the requests.

        May be called from many threads at once; they share slots, limits and budget. When it is
        interrupted, what it has open is cancelled.

        Args:
            requests: read in the calling thread, as room is there.
            on_answer: called in the calling thread with a request's position and its answer, in
                the order in which the answers come.
        Raises:
            UserError: the server cannot be asked like this (key, model, address), or the ledger
                is damaged.
            RunFailed: the server does not answer or is owed money, or the client was closed.
            OSError: no room on the disk for the ledger.
        """
        asking = _Asking(self, self._caller, on_answer)
        try:
            for position, request in enumerate(requests):
                self._check()
                call = self._caller.encode(request)
                known, written = self._caller.look_up(request, call)
                if known is not None:
                    asking.give(position, known)
                    continue
                self._take_room(asking)
                self._start_loop()
                self.call_on_loop(asking.start, position, request, call, written)
                asking.num_open += 1
            while asking.num_open:
                asking.wait()
        except BaseException as failure:
            asking.end(failure)
            raise
        return [asking.answers[position] for position in sorted(asking.answers)]

    def _take_room(self, asking: _Asking) -> None:
        """Wait until one more request may be in memory, giving out answers meanwhile."""
        while not self._room.acquire(blocking=False):
            if asking.num_open:
                asking.wait()
            elif self._room.acquire(timeout=POLL_S):  # other threads have it all
                return
            self._check()

    def _check(self) -> None:
        if self._is_closed:
            raise RunFailed(CLOSED)
        if self._caller.failure is not None:
            raise self._caller.failure

    # ------------------------------------------------------------------------------ numbers

    def encode(self, request: LlmRequest) -> Encoded:
        """Return a request as it would be sent, with its key."""
        return self._caller.encode(request)

    def plan(self, requests: Iterable[LlmRequest]) -> Plan:
        """Return what asking would take; nothing is sent."""
        seen: set[str] = set()
        in_ledger = prompt = completion = at_most = 0
        for request in requests:
            call = self._caller.encode(request)
            if call.key in seen or self._caller.look_up(request, call)[0] is not None:
                in_ledger += 1
                continue
            seen.add(call.key)
            prompt += call.prompt_tokens
            completion += min(
                request.max_tokens, self.config.expected_completion_tokens or request.max_tokens
            )
            at_most += request.max_tokens
        most_prompt = self._caller.budget.safe_tokens(prompt)
        return Plan(
            calls=len(seen),
            in_ledger=in_ledger,
            prompt_tokens=prompt,
            completion_tokens=completion,
            completion_tokens_at_most=at_most,
            cost_usd=self.prices.cost(self.model, prompt, completion),
            cost_usd_at_most=self.prices.cost(self.model, most_prompt if seen else 0, at_most),
        )

    def spend(self) -> Spend:
        """Return what was done so far; at any time, from any thread."""
        counts = self._caller.counts
        is_known = self.prices.has_price(self.model)
        return Spend(
            requests=counts.requests,
            from_ledger=counts.from_ledger,
            sent=counts.sent,
            retries=counts.retries,
            repeated=counts.repeated,
            open=counts.open,
            answers=dict(counts.answers),
            over_budget=counts.over_budget,
            prompt_tokens=counts.prompt_tokens,
            completion_tokens=counts.completion_tokens,
            cost_usd=self._caller.budget.spent_usd if is_known else None,
        )

    def calls(self, also: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return rows of records.LLM_CALL, by key: requests that have answers.

        Args:
            also: keys of requests that were asked before, beside this client's own.
        """
        with self._lock:
            used = self._used.union(also)
        return self._ledger.calls(used)

    def note(self, answer: LlmAnswer) -> None:
        """Count an answer that is given out."""
        with self._lock:
            self._used.add(answer.key)
            counts = self._caller.counts
            counts.requests += 1
            counts.from_ledger += answer.from_ledger
        spend = self.spend()
        self._progress(
            "llm",
            spend.requests,
            None,
            open=spend.open,
            repeated=spend.repeated,
            **({} if spend.cost_usd is None else {"cost_usd": spend.cost_usd}),
        )

    # ------------------------------------------------------------------------------ the loop

    def _start_loop(self) -> None:
        with self._lock:
            if self._loop is None and not self._is_closed:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="cambrian-llm", daemon=True
                )
                self._thread.start()

    def call_on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function on the event loop; where that has ended, nothing is called."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *arguments)

    def give_room(self) -> None:
        """Let one more request be made."""
        self._room.release()

    def is_running(self) -> bool:
        """Whether answers can still come."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Cancel what is open and end the thread; takes a few seconds at the very most."""
        with self._lock:
            self._is_closed, thread, loop = True, self._thread, self._loop
        if thread is None or loop is None or not thread.is_alive():
            return
        with contextlib.suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(_wind_up(self._caller, self._connection), loop)
        thread.join(CLOSE_S)

    def __enter__(self) -> LlmClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


class _Asking:
    """One call of `ask`: its tasks on the loop, and the queue on which their answers come."""

    def __init__(self, client: LlmClient, caller: Caller, on_answer: OnAnswer | None) -> None:
        self._client, self._caller, self._on_answer = client, caller, on_answer
        self._come: queue.SimpleQueue[tuple[int, LlmAnswer | BaseException]] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[LlmAnswer]] = set()
        self.answers: dict[int, LlmAnswer] = {}
        self.num_open = 0

    def start(self, position: int, request: LlmRequest, call: Encoded, written: Written) -> None:
        """Start to ask; on the loop."""
        task = asyncio.ensure_future(self._caller.answer(request, call, written))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._end_of(done, position))

    def _end_of(self, task: asyncio.Task[LlmAnswer], position: int) -> None:
        self._tasks.discard(task)
        self._client.give_room()
        failure = RunFailed(CLOSED) if task.cancelled() else task.exception()
        self._come.put((position, failure if failure is not None else task.result()))

    def wait(self) -> None:
        """Wait for one answer and give it out; raises what went wrong in its place."""
        position, answer = self._next()
        if isinstance(answer, BaseException):
            raise answer
        self.give(position, answer)

    def _next(self) -> tuple[int, LlmAnswer | BaseException]:
        while True:
            try:
                come = self._come.get(timeout=POLL_S)
            except queue.Empty:
                if not self._client.is_running():
                    raise RunFailed(CLOSED) from None
                continue
            self.num_open -= 1
            return come

    def give(self, position: int, answer: LlmAnswer) -> None:
        """Give out an answer."""
        self._client.note(answer)
        self.answers[position] = answer
        if self._on_answer is not None:
            self._on_answer(position, answer)

    def end(self, failure: BaseException) -> None:
        """Come to an end after a failure.

        Where the server or the ledger failed nothing more is sent, and what is open comes to its
        end: it is paid for. Where the caller failed or was interrupted it is cancelled.
        """
        is_fatal = self._caller.failure is failure
        if not is_fatal:
            self._client.call_on_loop(self._cancel)
        while self.num_open and self._client.is_running():
            position, answer = self._next()
            if is_fatal and isinstance(answer, LlmAnswer):
                self.give(position, answer)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _wind_up(caller: Caller, connection: OpenAiConnection) -> None:
    """Cancel all that runs on this loop, close the connections, stop the loop."""
    caller.fail(RunFailed(CLOSED))
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=2)
    await connection.close()
    asyncio.get_running_loop().stop()

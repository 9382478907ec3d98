"""Notes of many tasks to the ledger in one transaction: what comes up in one turn of the loop.

Each task goes on when its note is committed. At full speed it halves the number of commits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cambrian_data.llm.ledger import Ledger, Note
from cambrian_data.records import UserError


class GroupWriter:
    """Writes into a ledger from one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Note, asyncio.Future[Any]]] = []

    async def write(self, note: Note) -> Any:
        """Write a note down, and return what it gives once no kill can lose it."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((note, written))
        return await written

    def _flush(self) -> None:
        """Write all that waits; also notes whose tasks were cancelled: they may be answers."""
        waiting, self._waiting = self._waiting, []
        try:
            given = self._ledger.write(*(note for note, _ in waiting))
        except BaseException as failure:
            for _, written in waiting:
                if not written.done():
                    written.set_exception(failure)
            if isinstance(failure, OSError | UserError):
                return  # who waits for it raises it
            raise
        for (_, written), result in zip(waiting, given, strict=True):
            if not written.done():
                written.set_result(result)

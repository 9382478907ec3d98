"""A budget that is never passed: each call reserves the most that it can cost before it is sent.

Used on one event loop. What this run pays counts; answers out of the ledger are free.
"""

from __future__ import annotations

import asyncio

MARGIN = 1.25
"""Prompts are taken to be this much longer than estimated; more once servers counted more."""


class Budget:
    """What may be spent, what was, and what open calls may still cost."""

    def __init__(self, limit_usd: float | None) -> None:
        self._limit_usd = limit_usd
        self.spent_usd = self._reserved_usd = 0.0
        self._margin = MARGIN
        self._changed = asyncio.Condition()

    def safe_tokens(self, estimate: int) -> int:
        """Return prompt tokens that will hardly be passed."""
        return int(estimate * self._margin) + 1

    def learn(self, estimate: int, counted: int) -> None:
        """Remember by how much a prompt was longer than estimated."""
        if estimate:
            self._margin = max(self._margin, 1.1 * counted / estimate)

    async def reserve(self, most_usd: float) -> bool:
        """Reserve what a call can cost at most; wait for open calls to end where that helps.

        Returns:
            False where what is left is too little for this call.
        """
        if self._limit_usd is None:
            self._reserved_usd += most_usd
            return True
        async with self._changed:
            while self.spent_usd + self._reserved_usd + most_usd > self._limit_usd:
                if self.spent_usd + most_usd > self._limit_usd:
                    return False
                await self._changed.wait()
            self._reserved_usd += most_usd
            return True

    async def settle(self, most_usd: float, paid_usd: float) -> None:
        """Give back a reservation and write down what was paid."""
        self._reserved_usd -= most_usd
        self.spent_usd += paid_usd
        async with self._changed:
            self._changed.notify_all()

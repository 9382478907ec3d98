"""One OpenAI-compatible server over HTTP: bytes out, a reply back, and nothing tried again.

The transport is aiohttp's: httpx's own takes 12 ms of CPU a call and cannot hold 64 calls open at
full speed. The key goes into a header and nowhere else: it is struck out of every reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx2
from openai import DefaultAioHttpClient

from cambrian_data.llm.bodies import PATH
from cambrian_data.llm.faults import TOO_LARGE, UNREACHABLE, Reply
from cambrian_data.llm.reading import read_json
from cambrian_data.llm.visible import one_line

CONNECT_S = 20.0
MODELS_S = 15.0
MAX_NAME = 200
HIDDEN = "***"
MAX_BYTES = 2_000_000
"""Of one reply, unpacked: more than the longest answer of any model, and read within 50 ms."""


class OpenAiConnection:
    """Used on one event loop."""

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float, max_open: int) -> None:
        self.base_url = base_url.rstrip("/")
        self._key, self._timeout_s = api_key, timeout_s
        self._address = httpx2.URL(self.base_url + PATH)
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._http = DefaultAioHttpClient(
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s), pool=None),
            limits=httpx2.Limits(max_connections=max_open, max_keepalive_connections=max_open),
            follow_redirects=False,  # prompts and key go to the address that was named
        )

    async def send(self, body: bytes) -> Reply:
        """Post a body; a fault of the network is a reply without status.

        Of a reply that is too long, only the beginning comes back.

        Past the openai package, whose way to the same transport takes twice the CPU a call.
        """
        start = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._http.stream(
                    "POST", self._address, content=body, headers=self._headers
                ) as response:
                    data, is_whole = await _read(response)
        except (TimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error, httpx2.ConnectTimeout):  # what aiohttp's broken connections become
                return self._broken(error)
            return Reply(0, word=f"time_out: no answer within {self._timeout_s:g} s")
        except (httpx2.HTTPError, OSError) as error:
            return self._broken(error)
        return Reply(
            response.status_code,
            body=self._hide_bytes(data),
            headers=response.headers,
            word="" if is_whole else TOO_LARGE,
            seconds=time.monotonic() - start,
        )

    def _broken(self, error: Exception) -> Reply:
        cause = error.__cause__ or error
        is_refused = isinstance(cause, aiohttp.ClientConnectorError)
        word = one_line(self._hide(f"{type(cause).__name__}: {cause}"), 300)
        return Reply(0, word=f"{UNREACHABLE if is_refused else 'connection'}: {word}")

    async def models(self) -> tuple[list[str], str]:
        """Return the names of the models that the server has, or none and why."""
        try:
            async with asyncio.timeout(MODELS_S):
                async with self._http.stream(
                    "GET", self.base_url + "/models", headers=self._headers
                ) as response:
                    data, _ = await _read(response)
        except (TimeoutError, httpx2.ReadTimeout):
            return [], f"no answer within {MODELS_S:g} s"
        except (httpx2.HTTPError, OSError) as error:
            return [], one_line(self._hide(f"{error.__cause__ or error}"), 300)
        if response.has_redirect_location:
            where = one_line(self._hide(response.headers["location"]), 300)
            return [], f"it answers with a redirect to {where}"
        if response.status_code != 200:
            said = self._hide(data[:1_000].decode("utf-8", "replace"))
            return [], one_line(f"error {response.status_code}: {said}", 300)
        models = (read_json(data) or {}).get("data")
        if not isinstance(models, list):
            return [], "its answer is no list of models"
        ids = (model.get("id") for model in models if isinstance(model, dict))
        return sorted(one_line(name, MAX_NAME) for name in ids if isinstance(name, str)), (
            "it lists none"
        )

    async def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(2):
                await self._http.aclose()

    def _hide(self, text: str) -> str:
        return text.replace(self._key, HIDDEN) if len(self._key) >= 8 else text

    def _hide_bytes(self, data: bytes) -> bytes:
        """Strike out the key: some servers repeat it in what they complain of."""
        key = self._key.encode()
        return data.replace(key, HIDDEN.encode()) if len(key) >= 8 and key in data else data


async def _read(response: httpx2.Response) -> tuple[bytes, bool]:
    """Return the body of a reply, or its beginning, and whether it is all."""
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_BYTES:
            return bytes(data[:MAX_BYTES]), False
    return bytes(data), True


def list_models(base_url: str, api_key: str) -> tuple[list[str], str]:
    """Return the names of the models that a server has, or none and why; blocks."""
    connection = OpenAiConnection(base_url, api_key, timeout_s=MODELS_S, max_open=1)

    async def ask() -> tuple[list[str], str]:
        try:
            return await connection.models()
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as pool:  # this thread may have a loop of its own
        return pool.submit(asyncio.run, ask()).result()

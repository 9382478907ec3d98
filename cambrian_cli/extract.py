"""`cambrian data extract`: the figures of one page, from a file or an address."""

from __future__ import annotations

import os
import sys
import tempfile
from codecs import BOM_UTF8
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from cambrian_cli import output
from cambrian_data.records import UserError


def show_figures(path: Path, page: str, url: str, *, allow_private_hosts: bool) -> None:
    """Print the figures of one page, a JSON object a line."""
    from cambrian_data.engine.extract import PageError, extract

    body: bytes | str
    try:
        if urlsplit(page).scheme in ("http", "https"):
            body, address = _fetch(path, page, allow_private_hosts=allow_private_hosts)
        else:
            body, address = _read(Path(page)), url or Path(page).absolute().as_uri()
        figures = extract(body, url or address)
    except PageError as error:
        raise UserError(f"{page} cannot be read: {error}") from None
    for figure in figures:
        line = {
            "image_url": figure.image_url,
            "caption": figure.caption,
            "alt": figure.alt,
            "section": list(figure.section),
            "text": figure.text,
            "position": figure.position,
        }
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
    if not figures:
        hint = "" if url else "; pictures with relative addresses need the page's address as --url"
        output.err.print(f"no figure was found in {page}{hint}", markup=False)


def _read(path: Path) -> bytes | str:
    """Return the HTML of a file, which may be MediaWiki's JSON answer."""
    from cambrian_data.engine.extract import html_of_api_answer

    if path.is_dir():
        raise UserError(f"{str(path)!r} is a folder: name one page")
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}")
    body = path.read_bytes()
    if path.suffix != ".json":
        return body
    try:
        answer = html_of_api_answer(orjson.loads(body.removeprefix(BOM_UTF8)))
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    return answer[1] if answer else body


def _fetch(path: Path, url: str, *, allow_private_hosts: bool) -> tuple[bytes, str]:
    """Return the body of a page and its address after redirects.

    A workspace that is there lends its cache; none is made for one page.
    """
    from cambrian_data.engine.services import open_fetcher
    from cambrian_data.web.answers import FetchError

    with tempfile.TemporaryDirectory() as scratch:
        cache = path if (path / "runs").is_dir() else Path(scratch)
        with open_fetcher(cache, os.environ, allow_private_hosts=allow_private_hosts) as fetcher:
            try:
                fetched = fetcher.page(url)
            except FetchError as error:
                raise UserError(f"{url} gave no page: {error.reason}, {error.detail}") from None
    return fetched.body, fetched.final_url

"""Addresses of MediaWikis: which page one names, its canonical form, the file of a picture.

Nothing is guessed: an address names a page by its title, its number (`curid`) or its revision
(`oldid`), in this rising order of rank, as MediaWiki itself reads it. Pure; knows the hosts of
Wikimedia's projects, whose wikis all lie at the same places.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit, urlunsplit

from cambrian_data.engine.extract.address import original_url

_PROJECTS = (
    *("wikipedia", "wiktionary", "wikibooks", "wikiversity", "wikivoyage", "wikinews"),
    *("wikisource", "wikiquote"),
)
_OTHER_WIKIS = frozenset(
    {"www.wikidata.org", "www.mediawiki.org", "www.wikifunctions.org"}
    | {f"{name}.wikimedia.org" for name in ("commons", "species", "meta", "incubator")}
)
_PROJECT_HOST = re.compile(rf"(?!www\.|m\.)([a-z][a-z0-9-]*)\.(?:{'|'.join(_PROJECTS)})\.org")
_UPLOADS = "upload.wikimedia.org"
_SHOWN_ACTIONS = frozenset({"", "view", "render", "purge"})
_NO_PAGES = ("special:", "media:")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_ARTICLES = re.compile(r"\.php(/|$)|^/(images|resources|static|skins|extensions)/")
"""Paths that are no titles even where articles lie at the root of the host."""
_UNQUOTED = ";@$!*(),/~:"
"""What MediaWiki leaves as it is in the addresses of articles."""
_FILE_PATH = re.compile(r"/Special:(?:FilePath|Redirect/file)/", re.IGNORECASE)
_ILLEGAL = re.compile(r"[#<>\[\]|{}\x00-\x1f\x7f\ufffd]")
_MAX_NAME_BYTES = 240
"""Longest file name of MediaWiki."""


@dataclass(frozen=True, slots=True)
class Place:
    """A wiki: its API and where its articles lie on the same host."""

    api: str
    article_path: str = "/wiki/$1"

    @property
    def site(self) -> str:
        """The wiki's scheme and host, such as `https://en.wikipedia.org`."""
        return "{0.scheme}://{0.netloc}".format(urlsplit(self.api))

    @property
    def script(self) -> str:
        """Path of the script beside the API, such as `/w/index.php`."""
        return urlsplit(self.api).path.rpartition("/")[0] + "/index.php"

    def address(self, title: str, revision: str = "") -> str:
        """Return the canonical address of a page, or of one revision of it."""
        path = self.article_path.replace("$1", quote(title.replace(" ", "_"), safe=_UNQUOTED))
        mark = "&" if "?" in path else "?"
        return self.site + path + (f"{mark}oldid={revision}" if revision else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """A page of a wiki, named by one of title, page id and revision."""

    place: Place
    title: str = ""
    page_id: str = ""
    revision: str = ""
    not_shown: str = ""
    """Why the address shows no page to read, such as an edit form; empty where it does."""


def wikimedia_place(host: str) -> Place | None:
    """Return the wiki of Wikimedia at a host, under its mobile name too; None for other hosts."""
    labels = host.lower().split(".")
    desktop = ".".join(labels[:1] + labels[2:] if labels[1:2] == ["m"] else labels)
    if desktop in _OTHER_WIKIS or _PROJECT_HOST.fullmatch(desktop):
        return Place(f"https://{desktop}/w/api.php")
    return None


def host_language(host: str) -> str:
    """Return the language in the name of a host of Wikimedia; empty where it names none."""
    label = _PROJECT_HOST.fullmatch(host.lower())
    return {"simple": "en", "test": "", "test2": ""}.get(label[1], label[1]) if label else ""


def split_url(url: str) -> SplitResult | None:
    """Return the parts of an http or https address, None for anything else."""
    try:
        parts = urlsplit(url.strip())
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        url.encode()  # what is no text is no address
    except ValueError:
        return None
    return parts if is_web else None


def same_host(one: SplitResult, other: SplitResult) -> bool:
    """Tell whether two addresses are on one host and port; http and https count as one."""
    ports = [None if p.port == _DEFAULT_PORTS[p.scheme] else p.port for p in (one, other)]
    return one.hostname == other.hostname and ports[0] == ports[1]


def article_at(parts: SplitResult, place: Place) -> Article | None:
    """Return the page of a wiki that an address names, None where it names none."""
    query = dict(parse_qsl(parts.query))
    folder = place.script.rpartition("/")[0] + "/"
    if parts.path in ("", "/", "/wiki", "/wiki/", folder, place.script):
        title = _clean_title(query.get("title", ""))
    elif (in_path := _title_in_path(parts.path, place)) is not None:
        title = in_path
    else:
        return None
    asked = {"revision": query.get("oldid", ""), "page_id": query.get("curid", "")}
    asked = {name: value for name, value in asked.items() if re.fullmatch(r"[1-9]\d{0,18}", value)}
    if title.casefold().startswith(_NO_PAGES):
        return Article(place=place, not_shown=f"{title} is a service of the wiki, not a page")
    action = query.get("action", "")
    if action not in _SHOWN_ACTIONS or "diff" in query or "search" in query:
        shown = action or ("diff" if "diff" in query else "search")
        return Article(place=place, not_shown=f"the address shows no page but its {shown!r}")
    for name in ("revision", "page_id"):
        if name in asked:
            return Article(place=place, **{name: asked[name]})
    return Article(place=place, title=title) if title else None


def _title_in_path(path: str, place: Place) -> str | None:
    """Return the title that a path names, None for other paths."""
    before, _, after = place.article_path.partition("$1")
    for start, end in ((before, after), ("/wiki/", ""), (f"{place.script}/", "")):
        is_own = start != "/" or not _NO_ARTICLES.search(path)
        if "?" not in start and path.startswith(start) and path.endswith(end) and is_own:
            return _clean_title(_unquoted(path[len(start) : len(path) - len(end)]))
    return None


def _clean_title(title: str) -> str:
    title = unicodedata.normalize("NFC", title.partition("#")[0])
    return re.sub(r"[\s_]+", " ", title).strip()


def _unquoted(text: str) -> str:
    """Return text without percent escapes; old links hold Windows-1252, as MediaWiki knows."""
    data = unquote_to_bytes(text)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("windows-1252", "replace")


def canonical_url(url: str) -> str:
    """Return the one spelling under which an address is fetched.

    On Wikimedia's hosts: https, the desktop host, the title as MediaWiki writes it. Elsewhere only
    the host is written in lower case and the fragment cut, since nothing else is known of it.
    """
    parts = split_url(url)
    if parts is None:
        return url.strip()
    place = wikimedia_place(parts.hostname or "")
    article = article_at(parts, place) if place and _has_default_port(parts) else None
    if place and article and not article.not_shown:
        if article.title:
            return place.address(article.title)
        key, value = ("oldid", article.revision) if article.revision else ("curid", article.page_id)
        return f"{place.site}{place.script}?{key}={value}"
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user + at + host.lower(), fragment=""))


def _has_default_port(parts: SplitResult) -> bool:
    return parts.port in (None, *_DEFAULT_PORTS.values())


# -------------------------------------------------------------------------------- pictures


def picture_name(url: str) -> str:
    """Return the name of a picture's file on its wiki, whatever its size; empty without one."""
    parts = split_url(url)
    if parts is None:
        return ""
    if parts.path.endswith("/thumb.php"):
        name = dict(parse_qsl(parts.query)).get("f", "")
    else:
        path = urlsplit(original_url(url)).path.partition("/revision/")[0]
        name = _unquoted(path.rpartition("/")[2])
    name = unicodedata.normalize("NFC", name).replace(" ", "_")
    is_name = "." in name and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
    return name if is_name and not _ILLEGAL.search(name) else ""


def same_file(url: str, original: str) -> bool:
    """Tell whether a picture's address is that of a wiki's file, in any size.

    Folders count, so that a file of the same name in another repository is another one; not those
    of addresses which the wiki itself turns into that of the file.
    """
    one, other = split_url(original_url(url)), split_url(original)
    if one is None or other is None or picture_name(url) != picture_name(original):
        return False
    if _FILE_PATH.search(one.path) or one.path.endswith("/thumb.php"):
        return True
    folders = [
        _unquoted(part.path.partition("/revision/")[0]).rpartition("/")[0] for part in (one, other)
    ]
    return same_host(one, other) and folders[0] == folders[1]


def home_of_picture(url: str) -> Place | None:
    """Return the wiki of Wikimedia that a picture was uploaded to, None for other pictures."""
    parts = split_url(url)
    if parts is None:
        return None
    if _FILE_PATH.search(parts.path):
        return wikimedia_place(parts.hostname or "")
    found = re.match(r"/([a-z]+)/([a-z0-9-]+)/", parts.path)
    if found is None or parts.hostname != _UPLOADS:
        return None
    project, wiki = found.groups()
    return wikimedia_place(f"{wiki}.{'wikimedia' if wiki == 'commons' else project}.org")

"""Figures of a web page: picture, caption and the section that they stand in.

`extract(html, url)` reads every MediaWiki markup (legacy, modern, Parsoid, mobile) and general
pages (`figure`, `wp-caption`, documentation, blogs, news) by rules about markup, never by the name
of a site. It applies no recipe filter: `filter_figures` does. Pure; about a second for the longest
articles, nearly all of it in the HTML parser. No page takes more than seconds: the time grows with
the size, and a page beyond the bounds of `parse` raises `PageError`.
"""

from __future__ import annotations

from cambrian_data.engine.extract.filters import ExtractConfig, Rejected, filter_figures
from cambrian_data.engine.extract.mediawiki import html_of_api_answer
from cambrian_data.engine.extract.page import Figure, extract, page_language, page_title
from cambrian_data.engine.extract.parse import PageError

__all__ = [
    "ExtractConfig",
    "Figure",
    "PageError",
    "Rejected",
    "extract",
    "filter_figures",
    "html_of_api_answer",
    "page_language",
    "page_title",
]

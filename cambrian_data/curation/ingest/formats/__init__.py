"""Formats that rows of instruction sets come in, behind one protocol: `open_source`."""

from cambrian_data.curation.ingest.formats.folder import FolderRows, open_source
from cambrian_data.curation.ingest.formats.jsonrows import PlainJson
from cambrian_data.curation.ingest.formats.rows import FORMAT_MENDS, Piece, RowSource, SourceRow

__all__ = [
    "FORMAT_MENDS",
    "FolderRows",
    "Piece",
    "PlainJson",
    "RowSource",
    "SourceRow",
    "open_source",
]

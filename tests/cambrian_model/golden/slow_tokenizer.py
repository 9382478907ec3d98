"""A slow Llama tokenizer as transformers 4.37 had it, on the sentencepiece library.

Only for the reference cases: newer transformers have none. What it does, by setting:

* Added tokens are cut out of the text first, the longest that fits; the rest goes piece by piece to
  sentencepiece. `rstrip`: an added token swallows the white space after it.
* `legacy=True`: sentencepiece puts a space before every piece, so one appears after each added
  token too (`</s> USER` becomes `</s>`, two spaces, `USER`).
* `legacy=False`: the space is put before the text alone. A piece that begins with a space is
  encoded behind `<unk>`, whose letters are then taken off, to keep that space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

SPACE = "\u2581"
_UNKNOWN = "<unk>"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@cache
def _processor(file: Path, *, dummy_prefix: bool) -> sentencepiece.SentencePieceProcessor:
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    model.normalizer_spec.add_dummy_prefix &= dummy_prefix
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


class SlowLlamaTokenizer:
    """What `encode` needs, and back to text."""

    def __init__(
        self,
        file: Path,
        added: Mapping[str, int],
        *,
        legacy: bool,
        rstrip: bool = False,
        adds_bos: bool = True,
    ) -> None:
        """Read a model.

        Args:
            added: tokens beside the model's own, special ones, with their ids.
            adds_bos: whether it begins each text with its BOS.
        """
        self._pieces = _processor(file, dummy_prefix=legacy)
        own = (self._pieces.unk_id(), self._pieces.bos_id(), self._pieces.eos_id())
        names = {self._pieces.id_to_piece(token): token for token in own if token >= 0}
        self._added = names | dict(added)
        self._names = {token: name for name, token in self._added.items()}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first)))
        self._legacy, self._rstrip = legacy, rstrip
        self.bos_token_id = self._pieces.bos_id() if adds_bos else None

    def encode_text(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ids and character offsets."""
        if self._legacy or not text:
            found = list(self._tokens(text))
            return [token for token, _, _ in found], [(left, right) for _, left, right in found]
        found = list(self._tokens(SPACE + text.replace(SPACE, " ")))
        first_two = [token for token, _, _ in found[:2]]
        lone_space = first_two[:1] == [self._pieces.piece_to_id(SPACE)]
        if lone_space and first_two[1:] and first_two[1] in self._names:
            found = found[1:]
        spans = [(max(left - 1, 0), max(right - 1, 0)) for _, left, right in found]
        return [token for token, _, _ in found], spans

    def _tokens(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield id, begin and end of each token."""
        end = 0
        for match in self._cut.finditer(text):
            yield from self._between(text, end, match.start())
            yield self._added[match[0]], match.start(), match.end()
            end = match.end()
        yield from self._between(text, end, len(text))

    def _between(self, text: str, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the tokens of what stands between two added ones."""
        if self._rstrip and begin:
            begin = end - len(text[begin:end].lstrip())
        piece = text[begin:end]
        if not piece:
            return
        before = "" if self._legacy or piece[0] not in f"{SPACE} " else _UNKNOWN
        found = self._pieces.encode(before + piece, return_type="offset_mapping")
        skip = len(self._pieces.encode(before)) if before else 0
        shift = begin - len(before)
        tokens = zip(found["ids"], found["offsets"], strict=True)
        for token, (left, right) in list(tokens)[skip:]:
            yield token, left + shift, right + shift

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids, without tidying any space."""
        data = b""
        for token in ids:
            piece = self._names.get(token) or self._pieces.id_to_piece(token)
            byte = _BYTE.fullmatch(piece)
            data += bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()
        return data.decode(errors="replace")

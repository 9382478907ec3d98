"""What strangers hand over: damaged shards, pickles, configs; each ends in words, not a trace."""

from __future__ import annotations

import json
import tarfile

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_data.shards import ShardError, read_index
from cambrian_model.answers.questions import AnswerOptions
from cambrian_model.config import decoder_config
from cambrian_model.files.pretrained import check_place
from cambrian_model.files.weights import read_weights
from cambrian_model.loading.shard_index import scan_samples, shard_texts
from cambrian_model.model import CambrianModel
from cambrian_model.optimizer import build_optimizer
from cambrian_model.pictures import PictureError
from cambrian_model.templates import template_of
from cambrian_model.tokenizer import train_tokenizer


def test_a_header_with_a_negative_size_ends_the_shard(tmp_path):
    info = tarfile.TarInfo("000000000.0.jpg")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512 in base 256
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "shard.tar"
    record = tarfile.TarInfo("000000000.json").tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(record + bytes(block) + bytes(1024))
    with path.open("rb") as file, pytest.raises(tarfile.HeaderError, match="-512"):
        list(scan_samples(file))


def test_records_that_are_none_give_no_texts(new_sample, new_shards, tmp_path):
    good = new_sample([("A?", "b")])
    odd = new_sample([("C?", "d")])
    odd.record["conversations"] = "no turns"
    folder = new_shards(tmp_path / "shards", [good, odd])
    assert list(shard_texts(folder)) == ["A?", "b"]


@pytest.mark.parametrize(
    "entry", ["shard.tar", {"file": "shard.tar"}, {"file": "../x", "sha256": "0", "samples": 1}]
)
def test_an_entry_of_the_index_that_names_no_shard_is_told(tmp_path, entry):
    (tmp_path / "index.json").write_text(json.dumps({"shards": [entry]}))
    with pytest.raises(ShardError, match=r"index.json is damaged: its entry .* names no shard"):
        read_index(tmp_path)


def test_a_huge_declared_picture_is_no_picture():
    import struct
    import zlib

    from cambrian_model.loading.sample_reader import upright_size

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(PictureError):
        upright_size(png)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x80\x02}q\x00.", b"PK\x03\x04junk"])
def test_bytes_that_are_no_weights_are_told(tmp_path, content):
    file = tmp_path / "mm_projector.bin"
    file.write_bytes(content)
    with pytest.raises(UserError, match="mm_projector.bin is damaged or holds"):
        list(read_weights(file)) or pytest.fail("an empty dict holds no weights")


def test_a_pickle_with_code_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.bin")
    with pytest.raises(UserError, match=r"evil.bin is damaged or holds more than tensors") as told:
        list(read_weights(tmp_path / "evil.bin"))
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(told.value)


@pytest.mark.parametrize(
    "settings", [{"num_attention_heads": "x"}, {"hidden_size": "abc"}, {"rope_parameters": 3}]
)
def test_settings_that_a_language_model_does_not_take_are_told(settings):
    with pytest.raises(UserError, match="llama does not take these settings"):
        decoder_config({"model_type": "llama"} | settings)


def test_a_config_with_wrong_kinds_of_values_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cambrian", "towers": 7}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"config.json is damaged or no config"):
        CambrianModel.from_pretrained(tmp_path)


def test_a_word_of_a_million_letters_is_learnt_from_in_pieces():
    tokenizer = train_tokenizer(["ab" * 500_000], 300, template_of("plain"))
    assert tokenizer.decode(tokenizer("abab").input_ids) == "abab"


def test_a_model_that_is_neither_cached_nor_on_the_hub_is_told_before_anything_starts():
    """Tests have no network, so that the hub cannot be asked."""
    with pytest.raises(UserError, match="nobody/nothing could not be loaded.*give its folder"):
        check_place("nobody/nothing")
    with pytest.raises(UserError, match="no such folder"):
        check_place("/no/such/folder")


def test_a_stage_in_which_nothing_learns_is_told(tiny_recipe):
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UserError, match="nothing learns in this stage"):
        build_optimizer(model, tiny_recipe().pretrain)


@pytest.mark.parametrize("options", [{"seed": 10**30}, {"temperature": 1e-45}])
def test_options_that_no_generator_takes_are_told(options):
    (name,) = options
    with pytest.raises(UserError, match=f"{name} is .*; give "):
        AnswerOptions(**options)

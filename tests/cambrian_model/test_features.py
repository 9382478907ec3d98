"""The cache of features: bounds, files, damage, and towers that change."""

from __future__ import annotations

import pytest
import torch

from cambrian_model.towers.features import FeatureCache, towers_identity
from cambrian_model.vision import build_towers


@pytest.fixture
def maker():
    """Return a maker of features that counts its calls; each call gives other numbers."""
    calls = []

    def make():
        calls.append(1)
        generator = torch.Generator().manual_seed(len(calls))
        return [torch.randn(4, 6, generator=generator), torch.randn(9, 2, generator=generator)]

    make.calls = calls
    return make


def _same(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_features_are_made_once_while_they_fit(maker):
    cache = FeatureCache(2 * (24 + 18) * 4)
    first = cache.get("a", maker)
    assert _same(first, cache.get("a", maker))
    cache.get("b", maker)
    cache.get("c", maker)
    assert (len(cache), cache.num_made) == (2, 3)
    assert not _same(first, cache.get("a", maker)), "the oldest was dropped"


def test_without_room_everything_is_made_again(maker):
    cache = FeatureCache(0)
    assert not _same(cache.get("a", maker), cache.get("a", maker))
    assert len(maker.calls) == 2


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16, torch.bfloat16])
def test_made_kept_and_read_are_the_same_bits(tmp_path, maker, dtype):
    settings = {"folder": tmp_path, "identity": "towers", "dtype": dtype}
    cache = FeatureCache(10**6, **settings)
    made = cache.get("a" * 64, maker)
    assert {value.dtype for value in made} == {dtype or torch.float32}
    assert _same(made, cache.get("a" * 64, maker))
    later = FeatureCache(10**6, **settings)
    assert _same(made, later.get("a" * 64, maker))
    assert (later.num_made, later.num_read, len(maker.calls)) == (0, 1, 1)
    assert not list(tmp_path.rglob("*.tmp"))


def test_features_in_bfloat16_are_kept_as_they_are(tmp_path):
    value = torch.randn(5, 3).to(torch.bfloat16)
    for _ in range(2):
        cache = FeatureCache(0, folder=tmp_path, identity="towers")
        assert _same(cache.get("a", lambda: [value]), [value])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:3],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:40] + b"?" + data[41:],
    ],
)
def test_damaged_files_are_made_anew(tmp_path, maker, damage):
    settings = {"folder": tmp_path, "identity": "towers"}
    FeatureCache(0, **settings).get("a", maker)
    (file,) = tmp_path.rglob("*.features")
    file.write_bytes(damage(file.read_bytes()))
    cache = FeatureCache(0, **settings)
    made = cache.get("a", maker)
    assert (cache.num_damaged, cache.num_made) == (1, 1)
    again = FeatureCache(0, **settings)
    assert _same(made, again.get("a", maker))
    assert again.num_read == 1


def test_other_towers_and_types_do_not_share_files(tmp_path, maker):
    for number, (identity, dtype) in enumerate(
        [("one", None), ("two", None), ("one", torch.float16)], start=1
    ):
        FeatureCache(0, folder=tmp_path, identity=identity, dtype=dtype).get("a", maker)
        assert len(maker.calls) == number


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, maker, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(10**6, folder=tmp_path / "file", identity="towers")
    first = cache.get("a", maker)
    assert _same(first, cache.get("a", maker))
    assert "cannot be kept" in caplog.text


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="needs the identity"):
        FeatureCache(1, folder=tmp_path)
    with pytest.raises(ValueError, match="float32, float16, bfloat16, not"):
        FeatureCache(1, dtype=torch.int8)


def test_the_identity_of_towers_follows_their_weights():
    torch.manual_seed(0)
    towers = build_towers(["tiny-clip", "tiny-convnext"])
    first = towers_identity(towers)
    assert towers_identity(towers) == first
    assert towers_identity(list(towers)[::-1]) != first
    with torch.no_grad():
        next(towers[1].parameters()).view(-1)[0] += 1e-3
    assert towers_identity(towers) != first

from __future__ import annotations

import io
import tarfile

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambrian_data.records import bytes_id
from cambrian_data.shards import (
    INDEX_NAME,
    ShardError,
    ShardSample,
    ShardsConfig,
    encode_shard,
    make_index,
    plan_shards,
    read_index,
    read_shards,
    shard_name,
    tar_size,
    verify_shards,
)


def sample(number: int, *pictures: bytes) -> ShardSample:
    images = [
        {"sha256": bytes_id(data), "width": 1, "height": 1, "file": f"{n}.png"}
        for n, data in enumerate(pictures)
    ]
    turns = [{"from": "human", "value": "What?\u00e9"}, {"from": "gpt", "value": f"a {number}"}]
    record = {"id": str(number), "conversations": turns, "images": images, "system": None}
    return ShardSample(f"{number:09d}", record, list(pictures))


SAMPLES = [sample(0), sample(1, b"one"), sample(2, b"two", b"three" * 400), sample(3, b"")]


def write(folder, groups):
    entries = []
    for number, group in enumerate(groups):
        data, entry = encode_shard(group)
        (folder / shard_name(number)).write_bytes(data)
        entries.append({"file": shard_name(number), **entry})
    (folder / INDEX_NAME).write_bytes(orjson.dumps(make_index("x", entries)))
    return folder


def test_samples_come_back_as_they_were(tmp_path):
    folder = write(tmp_path, [SAMPLES[:2], SAMPLES[2:]])
    assert list(read_shards(folder)) == SAMPLES
    index = read_index(folder)
    assert (index["samples"], index["pictures"], index["text_only"]) == (4, 4, 1)
    found = verify_shards(folder)
    assert (found.samples, found.pictures, found.problems) == (4, 4, [])


def test_plain_webdataset_reads_them(tmp_path):
    wds = pytest.importorskip("webdataset")
    folder = write(tmp_path, [SAMPLES])
    read = list(wds.WebDataset(str(folder / shard_name(0)), shardshuffle=False))
    assert [row["__key__"] for row in read] == [s.key for s in SAMPLES]
    assert read[2]["1.png"] == b"three" * 400
    assert orjson.loads(read[1]["json"]) == SAMPLES[1].record


def test_tar_headers_hold_no_time_and_no_user():
    data, _ = encode_shard(SAMPLES)
    assert data == encode_shard(SAMPLES)[0]
    for member in tarfile.open(fileobj=io.BytesIO(data)):
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_the_index_says_what_a_shard_weighs():
    for one in SAMPLES:
        data, _ = encode_shard([one])
        content = tar_size(one.record, [len(picture) for picture in one.pictures])
        assert content <= len(data) <= content + tarfile.RECORDSIZE


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "extra", "swap"])
def test_every_damage_is_found(tmp_path, damage):
    folder = write(tmp_path, [SAMPLES[:2], SAMPLES[2:]])
    path = folder / shard_name(1)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[700] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:1000])
    elif damage == "remove":
        path.unlink()
    elif damage == "extra":
        (folder / shard_name(7)).write_bytes(data)
    else:
        path.write_bytes((folder / shard_name(0)).read_bytes())
    assert verify_shards(folder).problems
    if damage != "extra":
        with pytest.raises(ShardError, match="again"):
            list(read_shards(folder))


def test_a_picture_that_is_not_the_one_named_is_found(tmp_path):
    wrong = ShardSample(SAMPLES[1].key, SAMPLES[1].record, [b"another"])
    assert "another picture" in verify_shards(write(tmp_path, [[wrong]])).problems[0]


def test_a_record_and_its_pictures_must_agree():
    with pytest.raises(ShardError, match="1 names"):
        encode_shard([ShardSample("0", SAMPLES[1].record, [])])


def test_messages_say_what_to_do(tmp_path):
    with pytest.raises(ShardError, match="cambrian data curate"):
        read_index(tmp_path)
    folder = write(tmp_path, [SAMPLES])
    (folder / shard_name(0)).write_bytes(b"no tar file at all")
    with pytest.raises(ShardError, match=shard_name(0)):
        list(read_shards(folder))
    (folder / INDEX_NAME).write_bytes(b"{")
    with pytest.raises(ShardError, match="damaged"):
        read_index(folder)


@given(st.lists(st.integers(0, 200_000)), st.integers(1, 9))
def test_plans_cover_every_sample_once_and_keep_the_limits(sizes, max_samples):
    config = ShardsConfig(max_bytes=2**16, max_samples=max_samples)
    plan = plan_shards(sizes, config)
    assert [n for rows in plan for n in rows] == list(range(len(sizes)))
    for rows in plan:
        assert 1 <= len(rows) <= max_samples
        assert len(rows) == 1 or sum(sizes[n] for n in rows) <= config.max_bytes

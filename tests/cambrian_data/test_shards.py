from __future__ import annotations

import io
import tarfile

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.records import bytes_id
from cambrian_data.shards import (
    INDEX_NAME,
    ShardError,
    ShardSample,
    ShardsConfig,
    encode_shard,
    make_index,
    parse_record,
    plan_shards,
    read_index,
    read_shard,
    read_shards,
    shard_name,
    stored_record,
    tar_size,
    verify_shards,
)
from cambrian_data.tarfiles import TarError, TarWriter, header, member_size


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
    assert parse_record(read[1]["json"]) == SAMPLES[1].record


def test_tar_headers_hold_no_time_and_no_user():
    data, _ = encode_shard(SAMPLES)
    assert data == encode_shard(SAMPLES)[0]
    for member in tarfile.open(fileobj=io.BytesIO(data)):
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_tar_files_are_those_of_pythons_tarfile():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for one in SAMPLES:
            names = [image["file"] for image in one.record["images"]]
            members = [("json", stored_record(one.record)), *zip(names, one.pictures, strict=True)]
            for name, data in members:
                member = tarfile.TarInfo(f"{one.key}.{name}")
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
    assert encode_shard(SAMPLES)[0] == buffer.getvalue()


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9./_-]{1,100}", fullmatch=True), st.integers(0, 8**11 - 1))
def test_headers_are_those_of_pythons_tarfile(name, size):
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    assert header(name, size) == member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("name", ["", "x" * 101, "\u00e9.json"])
def test_names_that_fit_no_header_are_refused(name):
    with pytest.raises(TarError, match="does not fit"):
        header(name, 1)


def test_what_may_be_null_is_stored_as_text_and_read_as_null():
    record = {**SAMPLES[0].record, "figure_id": None, "provenance": {"page_id": "p", "section": []}}
    stored = orjson.loads(stored_record(record))
    assert (stored["system"], stored["figure_id"]) == ("", "")
    assert stored["provenance"] == '{"page_id":"p","section":[]}'
    assert parse_record(stored_record(record)) == record
    bare = {**record, "provenance": None, "system": "Be brief."}
    assert parse_record(stored_record(bare)) == bare


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


def test_shards_of_webdatasets_own_writer_are_read(tmp_path):
    """It puts pictures before records."""
    wds = pytest.importorskip("webdataset")
    with wds.TarWriter(str(tmp_path / "x.tar"), mtime=0) as writer:
        for one in SAMPLES[1:3]:
            names = [image["file"] for image in one.record["images"]]
            pictures = dict(zip(names, one.pictures, strict=True))
            writer.write({"__key__": one.key, "json": stored_record(one.record), **pictures})
    assert list(read_shard(tmp_path / "x.tar")) == SAMPLES[1:3]


def test_what_the_index_says_of_keys_and_ranks_is_checked(tmp_path):
    folder = write(tmp_path, [SAMPLES[:2], SAMPLES[2:3]])
    index = read_index(folder)
    index["ranks"] = {"num": 2, "samples_per_rank": 2, "left_over": []}
    (folder / INDEX_NAME).write_bytes(orjson.dumps(index))
    assert verify_shards(folder).problems == ["the 2 ranks have [1, 2] samples"]
    index["shards"][0]["last_key"] = "000000007"
    (folder / INDEX_NAME).write_bytes(orjson.dumps(index))
    assert "not as indexed" in verify_shards(folder).problems[0]
    twice = write(tmp_path, [[SAMPLES[1], SAMPLES[0]]])
    assert "do not count up" in verify_shards(twice).problems[0]


def test_other_things_in_a_tar_file_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("000000000.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ShardError, match="is no plain file"):
        list(read_shard(tmp_path / "x.tar"))
    (tmp_path / "x.tar").write_bytes(encode_shard([ShardSample("0", {"images": []})])[0][1024:])
    assert list(read_shard(tmp_path / "x.tar")) == []


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


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 200_000), max_size=60),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(1, 4),
)
def test_rounds_are_of_equal_shards(sizes, max_samples, ranks, first):
    config = ShardsConfig(max_bytes=2**16, max_samples=max_samples, equal_for_ranks=ranks)
    plan = plan_shards(sizes, config, first)
    packed = [n for rows in plan for n in rows]
    assert packed == list(range(len(sizes) // ranks * ranks))
    for start in range(0, len(plan), ranks):
        assert len({len(rows) for rows in plan[start : start + ranks]}) == 1
    for rows in plan:
        assert len(rows) == 1 or sum(sizes[n] for n in rows) <= config.max_bytes
        assert len(rows) <= max_samples
    assert not plan or len(plan[0]) <= first


@settings(deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=1), st.integers(2**16, 2**18))
def test_no_file_is_larger_than_it_may_be(sizes, max_bytes):
    plan = plan_shards(
        [member_size(size) for size in sizes], ShardsConfig(max_bytes=max_bytes, max_samples=50)
    )
    for rows in plan:
        buffer = io.BytesIO()
        tar = TarWriter(buffer)
        tar.add([(f"{n}.x", bytes(sizes[n])) for n in rows])
        assert tar.finish() == bytes_id(buffer.getvalue())
        assert len(buffer.getvalue()) == tar.num_bytes <= max_bytes


@settings(deadline=None)
@given(st.lists(st.integers(0, 200_000)), st.integers(1, 9))
def test_plans_cover_every_sample_once_and_keep_the_limits(sizes, max_samples):
    config = ShardsConfig(max_bytes=2**16, max_samples=max_samples)
    plan = plan_shards(sizes, config)
    assert [n for rows in plan for n in rows] == list(range(len(sizes)))
    for rows in plan:
        assert 1 <= len(rows) <= max_samples
        assert len(rows) == 1 or sum(sizes[n] for n in rows) <= config.max_bytes

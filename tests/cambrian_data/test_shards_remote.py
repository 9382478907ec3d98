"""Shards at addresses: sent to an S3 server on this machine, read and verified there."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from cambrian_data.shard_store import ShardError, check_address, open_store, shown
from cambrian_data.shard_upload import SENT_NAME, send_shards
from cambrian_data.shards import (
    INDEX_NAME,
    ReencodeConfig,
    ShardsConfig,
    read_index,
    read_shards,
    verify_shards,
)
from tests.cambrian_data.mixtures import mixed_rows, pack, write_mixture

SECRET = "s3cr3t-of-the-test"


@pytest.fixture(scope="module")
def server():
    """An S3 server in a thread."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server, monkeypatch, request):
    """A client of the server, and a bucket of the test's own."""
    import boto3
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    bucket = "b" + str(abs(hash(request.node.name)))
    client.create_bucket(Bucket=bucket)
    return client, bucket


@pytest.fixture
def shards(workspace):
    """A folder of six shards."""
    write_mixture(workspace, mixed_rows(workspace, 53))
    pack(workspace, ShardsConfig(max_samples=9))
    return workspace.shards("mix")


def listed(client, bucket: str) -> dict[str, object]:
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"].rpartition("/")[2]: one["LastModified"] for one in found}


def body(client, bucket: str, name: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=f"deep/mix/{name}")["Body"].read()


def test_what_was_sent_reads_back_equal(s3, shards):
    client, bucket = s3
    address = f"s3://{bucket}/deep/mix"
    sent = send_shards(shards, address)
    assert (sent.num_sent, sent.num_kept) == (6, 0)
    names = {path.name for path in shards.glob("*.tar")}
    assert listed(client, bucket).keys() == names | {INDEX_NAME, SENT_NAME}
    for name in names:
        assert body(client, bucket, name) == (shards / name).read_bytes()
    assert read_index(address) == read_index(shards)
    assert list(read_shards(address)) == list(read_shards(shards))
    assert list(read_shards(address + "/")) == list(read_shards(shards))
    found = verify_shards(address)
    assert (found.shards, found.samples, found.problems) == (6, 53, [])


def test_nothing_is_sent_twice(s3, shards):
    client, bucket = s3
    address = f"s3://{bucket}/deep/mix"
    send_shards(shards, address)
    before = listed(client, bucket)
    assert send_shards(shards, address) == (0, 6, 0)
    assert listed(client, bucket) == before


def test_an_upload_that_was_broken_off_goes_on(s3, shards):
    client, bucket = s3
    address = f"s3://{bucket}/deep/mix"
    victim = shards / "shard-000005.tar"
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + b"!")
    with pytest.raises(ShardError, match=r"shard-000005\.tar is missing or damaged"):
        send_shards(shards, address)
    assert INDEX_NAME not in listed(client, bucket)
    with pytest.raises(ShardError, match="holds no shards"):
        list(read_shards(address))
    before = listed(client, bucket)
    arrived = [name for name in before if name.endswith(".tar")]
    victim.write_bytes(data)
    sent = send_shards(shards, address)
    assert sent.num_kept == len(arrived) and sent.num_sent == 6 - len(arrived)
    assert verify_shards(address).problems == []


@pytest.mark.parametrize("harm", ["other", "removed", "notes"])
def test_what_is_no_longer_there_as_it_arrived_is_sent_again(s3, shards, harm):
    client, bucket = s3
    address = f"s3://{bucket}/deep/mix"
    send_shards(shards, address)
    name = "shard-000003.tar"
    key = f"deep/mix/{name}"
    if harm == "other":
        other = bytes(len(body(client, bucket, name)))
        client.put_object(Bucket=bucket, Key=key, Body=other)
    elif harm == "removed":
        client.delete_object(Bucket=bucket, Key=key)
    else:
        client.put_object(Bucket=bucket, Key=f"deep/mix/{SENT_NAME}", Body=b'{"x": 1')
        assert send_shards(shards, address).num_sent == 6
        return
    assert any(name in problem for problem in verify_shards(address).problems)
    with pytest.raises(ShardError, match=name):
        list(read_shards(address))
    assert send_shards(shards, address).num_sent == 1
    assert verify_shards(address).problems == []


def test_other_shards_at_the_address(s3, shards, workspace):
    """Those of an earlier upload are replaced, those of somebody else are left alone."""
    client, bucket = s3
    address = f"s3://{bucket}/deep/mix"
    send_shards(shards, address)
    pack(workspace, ShardsConfig(max_samples=20, reencode=ReencodeConfig()))
    assert send_shards(shards, address).num_sent == 3
    assert verify_shards(address).problems == []
    assert read_index(address)["samples"] == 53
    client.put_object(Bucket=bucket, Key="deep/mix/shard-000777.tar", Body=b"x")
    with pytest.raises(ShardError, match=r"shard-000777\.tar .*none of these shards"):
        send_shards(shards, address)
    assert verify_shards(address).problems == ["shard-000777.tar is not in the index"]


def test_refusals_of_the_server_are_explained_without_secrets(s3, shards, monkeypatch):
    with pytest.raises(ShardError, match=r"s3://there-is-none/x: .*check the address") as refused:
        send_shards(shards, "s3://there-is-none/x")
    assert SECRET not in str(refused.value) and "test-key-id" not in str(refused.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ShardError, match="check the address") as refused:
        verify_shards("s3://there-is-none/x")
    assert SECRET not in str(refused.value)


def test_any_address_that_fsspec_knows(shards, tmp_path):
    for address in ("memory://deep/mix", f"file://{tmp_path}/made/mix"):
        assert send_shards(shards, address).num_sent == 6
        assert send_shards(shards, address).num_sent == 0
        assert verify_shards(address).problems == []
        assert list(read_shards(address)) == list(read_shards(shards))
    assert verify_shards(tmp_path / "made" / "mix").problems == []
    assert verify_shards(str(tmp_path / "made" / "mix")).problems == []


def test_addresses_that_cannot_be_used_are_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    with pytest.raises(ShardError, match=r"pip install 'cambrian\[gcs\]'"):
        check_address("gs://bucket/mix")
    with pytest.raises(ShardError, match="nope://"):
        check_address("nope://bucket/mix")
    for text in ("s3://", "bucket/mix", "simplecache::s3://bucket/mix"):
        with pytest.raises(ShardError, match="write it like s3://bucket/folder"):
            check_address(text)
    with pytest.raises(ShardError) as refused:
        open_store(f"nope://user:{SECRET}@host/mix?token={SECRET}")
    assert SECRET not in str(refused.value)


def test_what_is_shown_of_an_address():
    assert shown("s3://bucket/a/b") == "s3://bucket/a/b"
    assert shown("sftp://me:pass@host:22/a?sig=x#y") == "sftp://host:22/a"
    assert shown("http://[bad/a") == "http://..."


def test_shards_that_are_gone_are_said(shards):
    shutil.rmtree(shards)
    with pytest.raises(ShardError, match="holds no shards"):
        send_shards(shards, "memory://gone/mix")

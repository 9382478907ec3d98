"""What a stage of training works on, mistakes in it, and a dry run without a workspace."""

from __future__ import annotations

import pytest

from cambrian_data.recipes import RecipeError
from cambrian_data.records import UserError
from cambrian_data.shard_store import ShardError
from cambrian_data.workspace import Workspace
from flows.train_inputs import check_start, find_inputs, find_shards, plan_train, rank


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "ws")


def add_shards(workspace, name):
    folder = workspace.shards(name)
    folder.mkdir(parents=True)
    (folder / "index.json").write_text('{"samples": 0, "shards": []}')
    return folder


def asked(**changes):
    plain = {
        "stage": "pretrain",
        "recipe": "tiny",
        "settings": [],
        "shards": None,
        "start_from": None,
    }
    return plain | changes


def test_the_only_shards_need_no_name(workspace, tmp_path):
    with pytest.raises(UserError, match="has none; make some"):
        find_shards(workspace, None)
    folder = add_shards(workspace, "one")
    assert find_shards(workspace, None) == folder
    add_shards(workspace, "two")
    with pytest.raises(UserError, match="several: one, two; name one with --shards"):
        find_shards(workspace, None)
    assert find_shards(workspace, "one") == folder
    assert find_shards(workspace, str(tmp_path)) == tmp_path


def test_shards_may_be_an_address(workspace):
    assert find_shards(workspace, "memory://mixture") == "memory://mixture"
    with pytest.raises(ShardError, match="odd://"):
        find_shards(workspace, "odd://mixture")
    with pytest.raises(UserError, match="'mixtrue': no folder, no address"):
        find_shards(workspace, "mixtrue")


def test_stage_2_starts_from_the_recipes_stage_1(workspace, tmp_path):
    add_shards(workspace, "one")
    assert find_inputs(workspace, **asked()).start is None
    found = find_inputs(workspace, **asked(stage="finetune"))
    assert found.start == workspace.checkpoints("tiny", "pretrain")
    named = find_inputs(workspace, **asked(stage="finetune", start_from=tmp_path))
    assert named.start == tmp_path
    settings = ["model.connector_weights=mm_projector.bin"]
    assert find_inputs(workspace, **asked(stage="finetune", settings=settings)).start is None
    with pytest.raises(UserError, match="--from .*no such folder"):
        find_inputs(workspace, **asked(start_from=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stage": "pretrian"}, "known are pretrain, finetune"),
        ({"recipe": "8bn"}, "8b"),
        ({"settings": ["finetune.lr=fast"]}, "finetune.lr"),
    ],
)
def test_mistakes_are_told(workspace, changes, told):
    add_shards(workspace, "one")
    with pytest.raises((UserError, RecipeError), match=told):
        find_inputs(workspace, **asked(**changes))


def test_a_dry_run_needs_no_workspace(tmp_path):
    plan = plan_train(tmp_path / "none", **asked(recipe="phi3-3b", stage="finetune"))
    assert plan["parameters"]["language model"]["learns"] == 3_821_079_552
    assert plan["steps"] == -(-7_000_000 // 512)
    assert plan["from"].endswith("(not there yet)")
    assert not (tmp_path / "none").exists()


def test_the_rank_is_torchruns(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert rank() == 3


def test_what_a_run_would_stumble_over_is_told_before_it_starts(workspace):
    add_shards(workspace, "one")
    inputs = find_inputs(workspace, **asked())
    check_start(inputs, "cpu")
    with pytest.raises(UserError, match="no runtime 'cuad'; use one of cpu, cuda, mps, xla"):
        check_start(inputs, "cuad")
    with pytest.raises(UserError, match="no whole checkpoint in .* to start finetune from"):
        check_start(find_inputs(workspace, **asked(stage="finetune")), "cpu")

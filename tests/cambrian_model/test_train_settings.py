"""What a recipe's settings do to a run: logs, rates, packing, adapters, unfrozen towers, saving."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cambrian_model.checkpoint import checkpoints
from cambrian_model.runtime import Runtime
from cambrian_model.train import TrainError, train


@pytest.fixture(scope="module")
def runtime():
    return Runtime(threads=1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, standin_shards, tiny_recipe, runtime):
    out = tmp_path_factory.mktemp("pretrain")
    return train(tiny_recipe(), "pretrain", standin_shards, out, runtime=runtime)


@pytest.fixture
def finetune(tmp_path, pretrained, standin_shards, tiny_recipe, runtime):
    """Return what runs stage 2 with changes of the recipe."""

    def run(name="out", *, shards=standin_shards, start=pretrained.checkpoint, **changes):
        return train(
            tiny_recipe(**changes),
            "finetune",
            shards,
            tmp_path / name,
            init_from=start,
            runtime=runtime,
        )

    return run


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def logged(result):
    lines = (result.checkpoint.parent / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# --------------------------------------------------------------------------------- the log


def test_the_log_tells_of_every_step(pretrained):
    entries = logged(pretrained)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert set(entries[0]) == {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "epoch",
        "tokens_per_s",
        "samples_per_s",
        "mfu",
        "data_wait_share",
        "trained_token_share",
        "skipped",
        "peak_memory_gb",
    }
    assert entries[0]["loss"] == pytest.approx(pretrained.first_tenth_loss)
    assert entries[-1]["loss"] == pytest.approx(pretrained.last_tenth_loss)
    assert set(entries[0]["lr"]) == {"base", "sampler", "projector"}
    assert 0 < entries[0]["trained_token_share"] < 1
    assert entries[0]["mfu"] is None  # a CPU's peak is not known
    assert 0 <= entries[0]["data_wait_share"] <= 1


def test_a_line_every_few_steps_holds_their_mean_and_changes_nothing_else(finetune):
    each = finetune("each")
    some = finetune("some", finetune__log_every=4)
    assert [entry["step"] for entry in logged(some)] == [4, 6]
    losses = [entry["loss"] for entry in logged(each)]
    assert logged(some)[0]["loss"] == pytest.approx(sum(losses[:4]) / 4)
    assert logged(some)[1]["loss"] == pytest.approx(sum(losses[4:]) / 2)
    assert same(weights(each.checkpoint), weights(some.checkpoint))


def test_a_loss_that_is_not_finite_names_its_step_though_it_is_read_later(finetune):
    with pytest.raises(TrainError, match="step 2 of finetune") as error:
        finetune(finetune__lr=1e30, finetune__warmup_ratio=0.0, finetune__log_every=4)
    named = [word.strip(",;") for word in str(error.value).split()]
    assert sum(len(word) == 64 for word in named) == 4


def test_a_step_that_went_wrong_is_never_saved(tmp_path, finetune):
    with pytest.raises(TrainError):
        finetune(
            finetune__lr=1e30,
            finetune__warmup_ratio=0.0,
            finetune__log_every=100,
            finetune__save_every=3,
        )
    assert checkpoints(tmp_path / "out") == []


def test_tensorboard_is_written_beside_the_log(finetune):
    pytest.importorskip("tensorboard")
    result = finetune(finetune__logs=["tensorboard"])
    assert list((result.checkpoint.parent / "tensorboard").glob("events*"))


# ------------------------------------------------------------------------------- the rates


def test_rates_follow_the_batch(finetune):
    changes = {"finetune__base_batch_size": 16, "finetune__schedule": "constant"}
    entries = logged(finetune(finetune__sampler_lr=1e-3, **changes))
    assert entries[-1]["lr"]["base"] == pytest.approx(2e-3 / 2)  # 4 of 16 samples
    assert entries[-1]["lr"]["sampler"] == pytest.approx(1e-3 / 2)


# --------------------------------------------------------------------------- what is trained


def test_an_unfrozen_tower_learns_and_the_other_does_not(finetune, pretrained):
    result = finetune(
        model={
            "towers": ["tiny-clip", "tiny-convnext"],
            "unfreeze": ["tiny-convnext"],
            "connector": {
                "hidden_size": 32,
                "num_heads": 4,
                "num_layers": 1,
                "query_grids": [4],
            },
            "decoder": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            },
        },
        finetune__tower_lr=1e-3,
    )
    before, after = weights(pretrained.checkpoint), weights(result.checkpoint)
    changed = {
        name.split(".")[2]
        for name in after
        if name.startswith("model.vision_tower_aux_list")
        and not torch.equal(before[name], after[name])
    }
    assert changed == {"1"}
    assert logged(result)[0]["lr"]["tower"] == pytest.approx(1e-3 / 2)


def test_a_kept_feature_is_not_for_towers_that_learn(finetune, tiny_recipe):
    model = tiny_recipe().model.model_dump() | {"unfreeze": ["tiny-clip"]}
    with pytest.raises(TrainError, match="tiny-clip learns"):
        finetune(model=model, data={"feature_cache_mb": 8})


def test_kept_features_change_nothing_but_rounding(finetune):
    plain, kept = finetune("a"), finetune("b", data={"feature_cache_mb": 64})
    assert kept.last_tenth_loss == pytest.approx(plain.last_tenth_loss, rel=1e-4)


def test_adapters_learn_in_place_of_the_language_model_and_are_merged(finetune, pretrained):
    pytest.importorskip("peft")
    from cambrian_model.model import CambrianModel

    result = finetune(adapters={"rank": 4, "alpha": 8})
    assert result.model.name == "merged"
    before, after = weights(pretrained.checkpoint), weights(result.model)
    assert before.keys() == after.keys()
    assert not torch.equal(
        before["model.layers.0.self_attn.q_proj.weight"],
        after["model.layers.0.self_attn.q_proj.weight"],
    )
    assert torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    kept = weights(result.checkpoint)
    name = "model.layers.0.self_attn.q_proj.base_layer.weight"
    assert torch.equal(kept[name], before["model.layers.0.self_attn.q_proj.weight"])
    CambrianModel.from_pretrained(result.model)
    assert finetune(adapters={"rank": 4, "alpha": 8}).model == result.model
    with pytest.raises(TrainError, match="sharding full does not go with adapters"):
        finetune("x", adapters={"rank": 4}, finetune__sharding="full")


def test_a_trained_connector_replaces_stage_1(tmp_path, finetune, pretrained, tiny_recipe):
    from cambrian_model.files.published import save_connector
    from cambrian_model.model import CambrianModel

    path = tmp_path / "mm_projector.bin"
    save_connector(CambrianModel.from_pretrained(pretrained.checkpoint), path)
    model = tiny_recipe().model.model_dump() | {"connector_weights": str(path)}
    result = finetune(start=None, model=model, finetune__freeze=["connector"])
    name = "model.mm_projector.0.weight"
    assert torch.equal(weights(pretrained.checkpoint)[name], weights(result.checkpoint)[name])


# ------------------------------------------------------------------------------ the batches


def test_packing_and_micro_batches_do_not_change_a_step(finetune):
    found = [
        finetune("plain", finetune__steps=1, finetune__batch_size=8),
        finetune("packed", finetune__steps=1, finetune__batch_size=8, finetune__packing=True),
        finetune(
            "cut",
            finetune__steps=1,
            finetune__batch_size=8,
            finetune__packing=True,
            finetune__micro_batch_size=1,
        ),
    ]
    for result in found[1:]:
        assert result.first_tenth_loss == pytest.approx(found[0].first_tenth_loss, rel=1e-4)
        assert logged(result)[0]["grad_norm"] == pytest.approx(
            logged(found[0])[0]["grad_norm"], rel=1e-3
        )


def test_workers_change_nothing(finetune):
    alone, helped = finetune("a"), finetune("b", data={"workers": 2})
    assert same(weights(alone.checkpoint), weights(helped.checkpoint))


def test_a_picture_that_cannot_be_read_is_counted(
    finetune, tmp_path, new_sample, new_shards, draw_picture
):
    samples = [
        new_sample([(f"<image>\nWhat is {n}?", "A number.")], [draw_picture("red", (40 + n, 40))])
        for n in range(8)
    ]
    samples.append(new_sample([("<image>\nAnd this?", "Nothing.")], [b"no picture"]))
    shards = new_shards(tmp_path / "shards", samples)
    result = finetune(
        shards=shards, data={"max_bad_share": 0.3}, finetune__epochs=2, finetune__steps=None
    )
    assert result.samples == 9
    assert sum(result.lost.values()) == 2
    assert sum(logged(result)[-1]["skipped"].values()) == 2


def test_the_comparison_of_pictures_is_bounded(finetune):
    few = finetune("few", finetune__num_compared=5)
    none = finetune("none", finetune__num_compared=0)
    assert few.own_pictures_loss is not None
    assert none.own_pictures_loss is None
    assert few.own_pictures_loss != finetune("all").own_pictures_loss


def test_shards_may_lie_behind_an_address(finetune, standin_shards):
    import fsspec

    store = fsspec.filesystem("memory")
    for path in standin_shards.iterdir():
        store.pipe_file(f"/train-shards/{path.name}", path.read_bytes())
    near, far = finetune("near"), finetune("far", shards="memory://train-shards")
    assert same(weights(near.checkpoint), weights(far.checkpoint))


# ------------------------------------------------------------------------------ checkpoints


def test_checkpoints_written_meanwhile_hold_the_same_bytes(finetune):
    now, later = finetune("now"), finetune("later", finetune__async_save=True)
    for name in ("step-000004", "step-000006"):
        one, other = now.checkpoint.parent / name, later.checkpoint.parent / name
        assert (one / "manifest.json").read_bytes() == (other / "manifest.json").read_bytes()


def test_what_changes_no_result_makes_no_other_run(finetune):
    result = finetune()
    again = finetune(
        finetune__micro_batch_size=1,
        finetune__save_every=100,
        finetune__keep_last=9,
        data={"workers": 1, "picture_cache_mb": 1},
        plan={"devices": 3},
    )
    assert again.checkpoint == result.checkpoint
    other = finetune(finetune__weight_decay=0.1)
    assert not same(weights(other.checkpoint), weights(_aside(result) / "step-000006"))


def _aside(result):
    (folder,) = result.checkpoint.parent.parent.glob("out.before-*")
    return folder

"""The two stages end to end on small data: what learns, resuming, errors, the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cambrian_data.recipes import load_recipe
from cambrian_data.records import UserError
from cambrian_data.shards import ShardError
from cambrian_model.checkpoint import checkpoint_problem, checkpoints, latest_checkpoint
from cambrian_model.recipe import TrainRecipe
from cambrian_model.runtime import Runtime, runtime_of
from cambrian_model.train import TrainError, train

HERE = Path(__file__).resolve().parent
CONNECTOR = (
    "model.vision_sampler_",
    "model.mm_projector",
    "model.vision_query",
    "model.image_newline",
)
TOWERS = "model.vision_tower_aux_list."


@pytest.fixture(scope="module")
def runtime():
    return Runtime(threads=1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, standin_shards, tiny_recipe, runtime):
    out = tmp_path_factory.mktemp("pretrain")
    return train(tiny_recipe(), "pretrain", standin_shards, out, runtime=runtime)


def _weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class _Stop(Exception):
    """Stands for whatever ends a process in the middle."""


def _stop_after(step):
    def progress(stage, done, total, **numbers):
        if stage != "evaluate" and done == step:
            raise _Stop

    return progress


# ------------------------------------------------------------------------------- what learns


def test_stage_1_trains_the_connector_alone(pretrained):
    first, last = (_weights(pretrained.checkpoint.parent / f"step-00000{n}") for n in (4, 6))
    changed = {key for key in last if not torch.equal(first[key], last[key])}
    connector = {key for key in last if key.startswith(CONNECTOR)}
    assert changed
    assert changed <= connector
    assert connector - changed == set()


def test_stage_2_trains_connector_and_language_model(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    result = train(
        tiny_recipe(),
        "finetune",
        standin_shards,
        tmp_path,
        init_from=pretrained.checkpoint,
        runtime=runtime,
    )
    first, last = _weights(pretrained.checkpoint), _weights(result.checkpoint)
    for key, value in last.items():
        assert torch.equal(first[key], value) == key.startswith(TOWERS), key
    assert any(key.startswith(TOWERS) for key in last)
    assert result.own_pictures_loss > 0
    assert result.shuffled_pictures_loss > 0


# ---------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime, stop
):
    """Before the first checkpoint, between two, and after the last one."""
    options = {"init_from": pretrained.checkpoint, "runtime": runtime}
    whole = train(tiny_recipe(), "finetune", standin_shards, tmp_path / "whole", **options)
    with pytest.raises(_Stop):
        train(
            tiny_recipe(),
            "finetune",
            standin_shards,
            tmp_path / "cut",
            **options,
            progress=_stop_after(stop),
        )
    assert not (tmp_path / "cut" / "result.json").exists()
    torch.manual_seed(99)
    resumed = train(
        tiny_recipe(), "finetune", standin_shards, tmp_path / "cut", **options, resume=True
    )
    assert _same(_weights(whole.checkpoint), _weights(resumed.checkpoint))
    stored = [(tmp_path / name / "result.json").read_bytes() for name in ("whole", "cut")]
    assert stored[0] == stored[1]
    losses = [
        [(entry["step"], entry["loss"]) for entry in map(json.loads, lines)]
        for lines in (
            (tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")
        )
    ]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == [1, 2, 3, 4, 5, 6]


def test_a_killed_process_goes_on_to_the_same_bytes(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    recipe = tiny_recipe(finetune__steps=40, finetune__save_every=5)
    out = tmp_path / "killed"
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    script = f"""
        import sys
        sys.path[:0] = [{str(HERE.parents[1])!r}]
        from pathlib import Path
        from cambrian_model.recipe import TrainRecipe
        from cambrian_model.runtime import Runtime
        from cambrian_model.train import train
        written = Path({str(tmp_path / "recipe.json")!r}).read_bytes()
        recipe = TrainRecipe.model_validate_json(written)
        train(recipe, "finetune", Path({str(standin_shards)!r}), Path({str(out)!r}),
              init_from=Path({str(pretrained.checkpoint)!r}), runtime=Runtime(threads=1))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        deadline = time.monotonic() + 60
        while not checkpoints(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None, "it ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert checkpoints(out)
    assert not (out / "result.json").exists()
    options = {"init_from": pretrained.checkpoint, "runtime": runtime}
    resumed = train(recipe, "finetune", standin_shards, out, **options, resume=True)
    whole = train(recipe, "finetune", standin_shards, tmp_path / "whole", **options)
    assert _same(_weights(whole.checkpoint), _weights(resumed.checkpoint))
    assert (out / "result.json").read_bytes() == (tmp_path / "whole/result.json").read_bytes()


def test_a_damaged_checkpoint_is_passed_over_when_resuming(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    options = {"init_from": pretrained.checkpoint, "runtime": runtime}
    whole = train(tiny_recipe(), "finetune", standin_shards, tmp_path / "whole", **options)
    with pytest.raises(_Stop):
        train(
            tiny_recipe(),
            "finetune",
            standin_shards,
            tmp_path / "cut",
            **options,
            progress=_stop_after(5),
        )
    newest = latest_checkpoint(tmp_path / "cut")
    assert newest.name == "step-000004"
    model = newest / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    resumed = train(
        tiny_recipe(), "finetune", standin_shards, tmp_path / "cut", **options, resume=True
    )
    assert _same(_weights(whole.checkpoint), _weights(resumed.checkpoint))


def test_a_finished_run_is_not_run_again(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    options = {"init_from": pretrained.checkpoint, "runtime": runtime}
    first = train(tiny_recipe(), "finetune", standin_shards, tmp_path, **options)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    for resume in (True, False):
        again = train(
            tiny_recipe(),
            "finetune",
            standin_shards,
            tmp_path,
            **options,
            resume=resume,
            progress=_stop_after(1),
        )
        assert (again.checkpoint, again.own_pictures_loss, again.last_tenth_loss) == (
            first.checkpoint,
            first.own_pictures_loss,
            first.last_tenth_loss,
        )
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_two_runs_give_the_same_bytes_and_another_seed_others(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    again = train(tiny_recipe(), "pretrain", standin_shards, tmp_path / "a", runtime=runtime)
    other = train(
        tiny_recipe(), "pretrain", standin_shards, tmp_path / "b", runtime=runtime, seed=1
    )
    assert _same(_weights(pretrained.checkpoint), _weights(again.checkpoint))
    assert not _same(_weights(pretrained.checkpoint), _weights(other.checkpoint))


def test_another_run_in_the_same_folder_is_kept_beside(
    tmp_path, standin_shards, tiny_recipe, runtime
):
    out = tmp_path / "pretrain"
    first = train(tiny_recipe(), "pretrain", standin_shards, out, runtime=runtime)
    changed = tiny_recipe(pretrain__lr=1e-3, pretrain__steps=2)
    with pytest.raises(TrainError, match="holds a run with another recipe"):
        train(changed, "pretrain", standin_shards, out, runtime=runtime, resume=True)
    (out / "notes.txt").write_text("mine")
    result = train(changed, "pretrain", standin_shards, out, runtime=runtime)
    assert [path.name for path in checkpoints(out)] == ["step-000002"]
    assert result.steps == 2
    assert len((out / "log.jsonl").read_text().splitlines()) == 2
    (aside,) = tmp_path.glob("pretrain.before-*")
    assert (aside / "notes.txt").exists()
    assert checkpoint_problem(aside / first.checkpoint.name) is None


def test_a_run_that_fails_at_once_costs_no_checkpoint(
    tmp_path, standin_shards, tiny_recipe, runtime
):
    out = tmp_path / "pretrain"
    train(tiny_recipe(), "pretrain", standin_shards, out, runtime=runtime)
    with pytest.raises(TrainError):
        train(
            tiny_recipe(pretrain__lr=1e30, pretrain__steps=3),
            "pretrain",
            standin_shards,
            out,
            runtime=runtime,
        )
    (aside,) = tmp_path.glob("pretrain.before-*")
    assert checkpoints(aside)


def test_the_other_stages_part_of_the_recipe_plays_no_part(
    pretrained, standin_shards, tiny_recipe, runtime
):
    recipe = tiny_recipe(finetune__lr=1e-4)
    again = train(
        recipe,
        "pretrain",
        standin_shards,
        pretrained.checkpoint.parent,
        runtime=runtime,
        progress=_stop_after(1),
    )
    assert again.checkpoint == pretrained.checkpoint


# ------------------------------------------------------------------------------------ errors


def test_finetune_needs_a_pretrain_checkpoint(tmp_path, standin_shards, tiny_recipe, runtime):
    with pytest.raises(TrainError, match="none is given.*--stage pretrain"):
        train(tiny_recipe(), "finetune", standin_shards, tmp_path / "x", runtime=runtime)
    with pytest.raises(TrainError, match="no whole checkpoint"):
        train(
            tiny_recipe(),
            "finetune",
            standin_shards,
            tmp_path / "x",
            runtime=runtime,
            init_from=tmp_path,
        )
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_of_another_model_is_refused(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    recipe = tiny_recipe(model__connector__num_layers=2)
    with pytest.raises(TrainError, match="connector differs"):
        train(
            recipe,
            "finetune",
            standin_shards,
            tmp_path,
            runtime=runtime,
            init_from=pretrained.checkpoint,
        )


def test_a_folder_of_checkpoints_stands_for_its_newest(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    results = [
        train(
            tiny_recipe(finetune__steps=2),
            "finetune",
            standin_shards,
            tmp_path / name,
            init_from=start,
            runtime=runtime,
        )
        for name, start in (("a", pretrained.checkpoint), ("b", pretrained.checkpoint.parent))
    ]
    assert _same(*(_weights(result.checkpoint) for result in results))


def test_a_loss_that_is_not_finite_stops_with_the_samples(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    recipe = tiny_recipe(finetune__lr=1e30, finetune__warmup_ratio=0.0)
    with pytest.raises(TrainError, match="lower lr") as error:
        train(
            recipe,
            "finetune",
            standin_shards,
            tmp_path,
            runtime=runtime,
            init_from=pretrained.checkpoint,
        )
    named = [word.strip(",;") for word in str(error.value).split()]
    assert sum(len(word) == 64 for word in named) == 4


def test_a_folder_without_shards_is_an_error(tmp_path, tiny_recipe, runtime):
    with pytest.raises(ShardError, match="holds no shards"):
        train(tiny_recipe(), "pretrain", tmp_path, tmp_path / "out", runtime=runtime)


def test_a_mistake_does_not_cost_an_earlier_run(
    tmp_path, standin_shards, new_sample, new_shards, tiny_recipe, runtime
):
    train(tiny_recipe(), "pretrain", standin_shards, tmp_path / "out", runtime=runtime)
    bad = new_shards(tmp_path / "bad", [new_sample([("<image>", "No picture.")])])
    for shards, recipe in (
        (bad, tiny_recipe()),
        (standin_shards, tiny_recipe(model__towers=["clip"])),
        (standin_shards, tiny_recipe(model__connector__query_grids=[3])),
        (standin_shards, tiny_recipe(model__decoder={"model_type": "lama"})),
    ):
        with pytest.raises(UserError):
            train(recipe, "pretrain", shards, tmp_path / "out", runtime=runtime)
    assert latest_checkpoint(tmp_path / "out").name == "step-000006"


def test_skipped_samples_are_in_the_result(
    tmp_path, new_sample, new_shards, tiny_recipe, runtime, draw_picture
):
    samples = [
        new_sample([(f"<image>\nWhat is {n}?", "A number.")], [draw_picture("red")])
        for n in range(9)
    ]
    samples.append(new_sample([("why " * 300, "So.")]))
    shards = new_shards(tmp_path / "shards", samples)
    recipe = tiny_recipe(data={"max_bad_share": 0.2})
    result = train(recipe, "pretrain", shards, tmp_path / "out", runtime=runtime)
    assert (result.samples, result.skipped) == (9, {"answers_cut": 1})


def test_text_only_shards(tmp_path, new_sample, new_shards, tiny_recipe, runtime, pretrained):
    """Stage 2 learns from them and has no losses by picture; stage 1 has nothing to learn."""
    samples = [new_sample([(f"What is {n}?", "A number.")]) for n in range(9)]
    shards = new_shards(tmp_path / "shards", samples)
    with pytest.raises(TrainError, match="no sample in .* has one"):
        train(tiny_recipe(), "pretrain", shards, tmp_path / "1", runtime=runtime)
    result = train(
        tiny_recipe(),
        "finetune",
        shards,
        tmp_path / "2",
        runtime=runtime,
        init_from=pretrained.checkpoint,
    )
    assert result.own_pictures_loss is None
    assert result.steps == 6


def test_stage_1_passes_over_batches_without_pictures(
    tmp_path, new_sample, new_shards, tiny_recipe, runtime, draw_picture
):
    samples = [new_sample([(f"What is {n}?", "A number.")]) for n in range(9)]
    samples.append(new_sample([("<image>", "A red one.")], [draw_picture("red")]))
    shards = new_shards(tmp_path / "shards", samples)
    result = train(
        tiny_recipe(pretrain__batch_size=1), "pretrain", shards, tmp_path / "out", runtime=runtime
    )
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    norms = [json.loads(line)["grad_norm"] for line in lines]
    assert 0.0 in norms
    assert result.steps == 6


def test_micro_batches_and_checkpointing_change_nothing_but_rounding(
    tmp_path, pretrained, standin_shards, tiny_recipe, runtime
):
    found = []
    for name, changes in (
        ("plain", {}),
        ("micro", {"finetune__micro_batch_size": 3}),
        ("again", {"finetune__gradient_checkpointing": True}),
    ):
        result = train(
            tiny_recipe(finetune__steps=2, finetune__batch_size=8, **changes),
            "finetune",
            standin_shards,
            tmp_path / name,
            runtime=runtime,
            init_from=pretrained.checkpoint,
        )
        found.append(result)
    for result in found[1:]:
        assert result.first_tenth_loss == pytest.approx(found[0].first_tenth_loss, rel=1e-5)
        assert result.last_tenth_loss == pytest.approx(found[0].last_tenth_loss, rel=1e-4)


def test_checkpoints_of_an_unknown_run_are_not_touched_by_resume(
    tmp_path, standin_shards, tiny_recipe, runtime
):
    train(tiny_recipe(), "pretrain", standin_shards, tmp_path, runtime=runtime)
    (tmp_path / "run.json").unlink()
    with pytest.raises(TrainError, match="another recipe"):
        train(tiny_recipe(), "pretrain", standin_shards, tmp_path, runtime=runtime, resume=True)
    assert len(checkpoints(tmp_path)) == 2


# ------------------------------------------------------------------------------- small parts


def test_files_hold_no_place_and_no_time(pretrained):
    out = pretrained.checkpoint.parent
    texts = [p.read_text() for p in out.rglob("*.json")]
    assert len(texts) >= 6
    assert not any(str(out) in text or "seconds" in text for text in texts)


def test_the_tiny_recipe_learns_to_look(tmp_path, half_standin_shards):
    """The recipe that is shipped, on half the data and for half the steps."""
    recipe = load_recipe("tiny", "train", TrainRecipe, ["finetune.steps=150"]).config
    runtime = runtime_of("cpu", threads=recipe.cpu_threads)
    first = train(recipe, "pretrain", half_standin_shards, tmp_path / "1", runtime=runtime)
    assert first.last_tenth_loss < first.first_tenth_loss
    result = train(
        recipe,
        "finetune",
        half_standin_shards,
        tmp_path / "2",
        runtime=runtime,
        init_from=tmp_path / "1",
    )
    assert result.last_tenth_loss < 0.35 * result.first_tenth_loss
    assert result.own_pictures_loss < 0.7 * result.shuffled_pictures_loss


def test_importing_the_package_or_a_recipe_does_not_import_torch():
    script = "import sys, cambrian_model, cambrian_model.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=HERE.parents[1]).returncode == 0

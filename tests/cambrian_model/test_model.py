"""The whole model on small inputs: places of pictures, padding, learning, saving, generating."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cambrian_data.records import UserError
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from cambrian_model.files.names import own_name, published_name
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.optimizer import set_trainable
from cambrian_model.pictures import num_visual_tokens
from cambrian_model.runtime import Runtime
from cambrian_model.vision import Pictures, Tower, tower_spec

DECODER = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
PICTURE = IMAGE_TOKEN_INDEX


def make_model(**decoder):
    torch.manual_seed(0)
    config = CambrianConfig(
        towers=["tiny-clip", "tiny-convnext"],
        connector={"hidden_size": 32, "num_heads": 4, "num_layers": 2, "query_grids": [4]},
        decoder=DECODER | decoder,
    )
    return CambrianModel(config).eval()


@pytest.fixture(scope="module", autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return make_model()


def _pictures(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(sizes), 3, 96, 96)
    return Pictures(list(sizes), pixels=[torch.randn(shape, generator=generator) for _ in range(2)])


def _one(pictures, at):
    return Pictures(pictures.sizes[at : at + 1], pixels=[p[at : at + 1] for p in pictures.pixels])


def test_embeddings_stand_at_the_places_of_the_ids(model):
    pictures = _pictures((80, 80), (90, 45))
    ids = torch.tensor([[5, PICTURE, 6, PICTURE, 7]])
    layout = model.lay_out(ids, None, None, pictures.sizes)
    embeds = model.embed(layout, model.see(pictures))[0]
    text = model.get_input_embeddings()(torch.tensor([5, 6, 7]))
    shown = [num_visual_tokens(size, 4) for size in pictures.sizes]
    assert shown == [20, 10]
    first, second = 1, 2 + shown[0]
    assert torch.equal(embeds[[0, second - 1, -1]], text)
    tokens = model.see(pictures).tokens_CD.unflatten(0, (2, 4, 4))
    square = embeds[first : first + 20].unflatten(0, (4, 5))
    assert torch.equal(square[:, :4], tokens[0])
    wide = embeds[second : second + 10].unflatten(0, (2, 5))
    assert torch.equal(wide[:, :4], tokens[1, 1:3])
    newline = model.connector.image_newline.expand(6, -1)
    assert torch.equal(torch.cat([square[:, 4], wide[:, 4]]), newline)


def test_rows_of_a_batch_equal_the_rows_alone(model):
    """No picture, one, two, at the front, at the end: right padding reaches none of them."""
    pictures = _pictures((80, 80), (90, 45), (30, 60))
    rows = [[5, 6, 7, 8], [9, PICTURE, 10], [PICTURE, 11, 12, PICTURE]]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    together = model(ids, attention_mask=real, pictures=pictures).logits
    groups = [
        Pictures([], features=[]),
        _one(pictures, 0),
        Pictures(pictures.sizes[1:], pixels=[p[1:] for p in pictures.pixels]),
    ]
    for row, shown, got in zip(rows, groups, together, strict=True):
        alone = model(torch.tensor([row]), pictures=shown).logits[0]
        assert_close(got[: len(alone)], alone, atol=1e-5, rtol=1e-4)


def test_the_loss_is_the_mean_over_all_trained_tokens(model):
    """Also where the rows are trained at different places, and with padding between."""
    pictures = _pictures((80, 80))
    ids = torch.tensor([[5, 6, 7, 8, 2], [9, PICTURE, 10, 11, 12]])
    real = ids != 2
    labels = torch.tensor([[-100, 6, -100, 8, -100], [-100, -100, -100, -100, 12]])
    loss = model(ids, attention_mask=real, labels=labels, pictures=pictures).loss
    logits = model(ids, attention_mask=real, pictures=pictures).logits.log_softmax(-1)
    last = 1 + 20 + 2  # where 12 stands once the picture is spread out
    expected = -(logits[0, 0, 6] + logits[0, 2, 8] + logits[1, last - 1, 12]) / 3
    assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_a_wrong_number_of_pictures_is_an_error(model):
    with pytest.raises(ValueError, match="name 1 pictures, 2 are given"):
        model(torch.tensor([[5, PICTURE]]), pictures=_pictures((9, 9), (9, 9)))


def test_the_answer_depends_on_the_picture(model):
    ids = torch.tensor([[5, PICTURE, 6]])
    one = model(ids, pictures=_pictures((80, 80), seed=1)).logits[0, -1]
    other = model(ids, pictures=_pictures((80, 80), seed=2)).logits[0, -1]
    assert (one - other).abs().max() > 1e-4


def test_four_samples_are_learnt_by_heart():
    """The same question over three pictures and one without: only the pictures tell them apart."""
    model = make_model()
    set_trainable(model, "finetune")
    pictures = _pictures((80, 80), (90, 45), (30, 60))
    answers = [[20, 21, 22, 1], [23, 24, 25, 1], [26, 21, 25, 1], [27, 28, 29, 1]]
    ids = torch.tensor([[5, PICTURE, 6, *a] for a in answers[:3]] + [[5, 7, 6, *answers[3]]])
    labels = torch.tensor([[IGNORE_INDEX] * 3 + answer for answer in answers])
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-3)
    for _ in range(150):
        loss = model(ids, labels=labels, pictures=pictures).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


def test_greedy_generation_equals_the_training_path(model):
    """Tokens from the KV cache are those that the forward pass without one would choose."""
    pictures = _pictures((80, 40))
    prompt = [0, 5, PICTURE, 6]
    new = model.generate(
        torch.tensor([prompt]),
        pictures=pictures,
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=95,
        pad_token_id=2,
    )[0].tolist()
    assert len(new) == 8
    for at, token in enumerate(new):
        logits = model(torch.tensor([prompt + new[:at]]), pictures=pictures).logits[0, -1]
        assert logits.argmax().item() == token


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_is_the_same_one(tmp_path, tied):
    model = make_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded = CambrianModel.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    head = loaded.decoder.lm_head.weight
    assert (head is loaded.get_input_embeddings().weight) == tied


def test_saved_names_are_the_published_ones(tmp_path, read_case):
    from safetensors import safe_open

    make_model().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    _, _, weights = read_case("b_connector_g1")
    # Our second tower has windows of 4 keys, the case's third one; it has no third tower here.
    shared = {key for key in weights if not any(t in key for t in ("aux_2", "proj_2", "embed_2"))}
    assert len(shared) > 40
    assert shared <= names
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"} <= names


def test_names_can_be_turned_back(model):
    for name in model.state_dict():
        assert own_name(published_name(name)) == name


def test_weights_that_do_not_fit_are_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    make_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.vision_query"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.vision_query missing"):
        CambrianModel.from_pretrained(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no saved model"):
        CambrianModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-convnext"])
def test_towers_give_the_grid_that_they_promise(name):
    spec = tower_spec(name)
    torch.manual_seed(3)
    tower = Tower(name).train()
    feats = tower(torch.randn(2, 3, spec.px, spec.px))
    assert feats.shape == (2, spec.grid**2, spec.width)
    assert not feats.requires_grad
    assert not tower.body.training
    torch.manual_seed(3)
    again = Tower(name)
    for one, other in zip(tower.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    tower.set_frozen(False)
    assert tower(torch.randn(1, 3, spec.px, spec.px)).requires_grad


def test_an_unknown_tower_is_named():
    with pytest.raises(UserError, match="no vision tower 'clip'.*tiny-clip"):
        tower_spec("clip")


def test_a_second_family_of_language_models_works():
    model = make_model(model_type="gpt_neox", rotary_pct=1.0)
    ids = torch.tensor([[5, PICTURE, 6, 7]])
    labels = torch.tensor([[-100, -100, -100, 7]])
    loss = model(ids, labels=labels, pictures=_pictures((80, 80))).loss
    loss.backward()
    assert model.connector.image_newline.grad.abs().max() > 0


def test_the_runtimes_checkpoint_function_runs_every_layer():
    model = make_model().train()
    calls = []
    keep = Runtime(threads=1).checkpoint_function()

    def counted(*args, **kwargs):
        calls.append(args)
        return keep(*args, **kwargs)

    ids, labels = torch.tensor([[5, 6, 7]]), torch.tensor([[-100, -100, 7]])
    model(ids, labels=labels).loss.backward()
    plain = model.decoder.lm_head.weight.grad.clone()
    model.zero_grad()
    model.use_checkpointing(counted)
    model(ids, labels=labels).loss.backward()
    assert len(calls) == DECODER["num_hidden_layers"]
    assert_close(model.decoder.lm_head.weight.grad, plain)


def test_the_cpu_runtime_keeps_the_state_of_the_generators():
    runtime = Runtime(threads=1)
    runtime.prepare(1)
    state = runtime.rng_state()
    first = torch.rand(3)
    runtime.set_rng_state(state)
    assert torch.equal(torch.rand(3), first)

"""The fresh model of a recipe: pretrained language models, tokenizers, towers, and none at all."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from cambrian_data.recipes import load_recipe
from cambrian_data.records import UserError
from cambrian_model.conversation import encode, template_of
from cambrian_model.files.pretrained import build_model, build_on_meta, fit_tokenizer
from cambrian_model.files.published import save_connector
from cambrian_model.model import CambrianModel
from cambrian_model.recipe import TrainRecipe
from cambrian_model.tokenizer import train_tokenizer

TEXTS = ["A red circle stands beside a blue square."] * 9
SIZES = {
    "vocab_size": 500,  # more rows than tokens, as is common
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _threads():
    torch.set_num_threads(1)


def texts():
    return list(TEXTS)


def refused():
    raise AssertionError("no tokenizer is to be made")


@pytest.fixture
def language_model(tmp_path):
    """Return a maker of folders with a pretrained language model and its tokenizer."""

    def make(kind="llama", template="llama_3", **settings):
        folder = tmp_path / "language-model"
        torch.manual_seed(8)
        config = AutoConfig.for_model(kind, **SIZES | settings)
        decoder = AutoModelForCausalLM.from_config(config)
        decoder.save_pretrained(folder)
        tokenizer = train_tokenizer(texts(), 320, template_of(template))
        tokenizer.save_pretrained(folder)
        return folder, decoder, tokenizer

    return make


def pretrained(tiny_recipe, folder, **changes):
    return tiny_recipe(model__decoder={}, model__decoder_weights=str(folder), **changes)


# ------------------------------------------------------------------------------ random weights


def test_without_weights_a_tokenizer_is_made_and_its_ids_are_the_models(tiny_recipe):
    model, tokenizer = build_model(tiny_recipe(), texts)
    config = model.decoder.config
    assert config.vocab_size == len(tokenizer)
    assert config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    assert model.config.system == "Be brief."


def test_the_seed_decides_and_the_recipes_order_of_towers_stays(tiny_recipe):
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        model, _ = build_model(tiny_recipe(), texts)
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert model.config.towers == ["tiny-clip", "tiny-convnext"]


def test_towers_and_connector_take_the_weights_that_are_named(tiny_recipe, tmp_path):
    torch.manual_seed(1)
    one, _ = build_model(tiny_recipe(), texts)
    save_file(one.towers[0].body.vision_tower.state_dict(), tmp_path / "tower.safetensors")
    save_connector(one, tmp_path / "mm_projector.bin")
    torch.manual_seed(2)
    recipe = tiny_recipe(
        model__tower_weights={"tiny-clip": str(tmp_path / "tower.safetensors")},
        model__connector_weights=str(tmp_path / "mm_projector.bin"),
    )
    other, _ = build_model(recipe, texts)
    for part in ("towers.0", "connector"):
        theirs = other.get_submodule(part).state_dict()
        ours = one.get_submodule(part).state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), part


# --------------------------------------------------------------------------- pretrained weights


@pytest.mark.parametrize("kind", ["llama", "phi3", "qwen2"])
def test_a_pretrained_language_model_is_taken_as_it_is(kind, tiny_recipe, language_model, tmp_path):
    folder, decoder, tokenizer = language_model(kind)
    model, found = build_model(pretrained(tiny_recipe, folder), refused)
    theirs = model.decoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in decoder.state_dict().items())
    assert found.get_vocab() == tokenizer.get_vocab()
    assert model.config.decoder["model_type"] == kind
    assert model.config.decoder["vocab_size"] == 500
    model.save_pretrained(tmp_path / "saved")
    loaded = CambrianModel.from_pretrained(tmp_path / "saved")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
        assert torch.equal(loaded(ids).logits, decoder.eval()(ids).logits)


def test_tokens_that_a_template_needs_are_added_and_told(
    tiny_recipe, language_model, caplog, tmp_path
):
    folder, decoder, tokenizer = language_model(vocab_size=320)
    recipe = pretrained(tiny_recipe, folder, template="chatml_direct")
    before = len(tokenizer)
    with caplog.at_level(logging.WARNING):
        model, found = build_model(recipe, refused)
    assert "the tokenizer has no <|im_start|>, <|im_end|>" in caplog.text
    assert len(found) == before + 2
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] >= len(found)
    old = decoder.get_input_embeddings().weight
    assert torch.equal(rows[: len(old)], old)
    assert torch.equal(rows[len(old) :], old.mean(dim=0).expand(len(rows) - len(old), -1))
    assert model.config.decoder["vocab_size"] == rows.shape[0]
    turns = [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]
    ids = encode(turns, found, template_of("chatml_direct")).input_ids
    assert found.convert_tokens_to_ids("<|im_end|>") in ids
    model.save_pretrained(tmp_path / "saved")
    CambrianModel.from_pretrained(tmp_path / "saved")


def test_padding_takes_the_templates_token_or_the_tokenizers_own():
    tokenizer = train_tokenizer(texts(), 320, template_of("llama_3"))
    tokenizer.pad_token = None
    assert fit_tokenizer(tokenizer, template_of("llama_3")) == []
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    assert fit_tokenizer(tokenizer, template_of("plain")) == ["</s>"]
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    tokenizer.pad_token = None
    assert fit_tokenizer(tokenizer, template_of("plain")) == ["<unk>"]
    assert tokenizer.pad_token == "<unk>"


def test_settings_beside_the_weights_change_its_config(tiny_recipe, language_model):
    folder, _, _ = language_model()
    changes = {"attention_dropout": 0.25}
    recipe = tiny_recipe(model__decoder=changes, model__decoder_weights=str(folder))
    model, _ = build_model(recipe, refused)
    assert model.decoder.config.attention_dropout == 0.25
    assert model.config.decoder["attention_dropout"] == 0.25


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gemma"}, "is 'gemma' and .* is a 'llama' model"),
        ({"num_hidden_layers": 1}, "do not fit the config: .* unexpected"),
        ({"num_hidden_layers": 3}, "do not fit the config: .* missing"),
        ({"intermediate_size": 24}, "do not fit|could not be loaded"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_told(tiny_recipe, language_model, changes, told):
    folder, _, _ = language_model()
    recipe = tiny_recipe(model__decoder=changes, model__decoder_weights=str(folder))
    with pytest.raises(UserError, match=told):
        build_model(recipe, refused)


def test_weights_that_are_not_there_are_told(tiny_recipe, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no such folder"):
        build_model(pretrained(tiny_recipe, tmp_path / "gone"), refused)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="could not be loaded"):
        build_model(pretrained(tiny_recipe, tmp_path / "empty"), refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="could not be loaded: .*hf download"):
        build_model(pretrained(tiny_recipe, "some-org/some-model"), refused)


# ----------------------------------------------------------------------------------- no weights


def test_on_meta_a_recipe_has_the_parameters_of_the_real_model(tiny_recipe):
    recipe = tiny_recipe()
    model, tokenizer = build_model(recipe, texts)
    empty = build_on_meta(recipe, vocab_size=len(tokenizer))
    assert all(p.is_meta for p in empty.parameters())
    ours = {name: p.shape for name, p in model.named_parameters()}
    assert ours == {name: p.shape for name, p in empty.named_parameters()}


def test_the_released_models_are_counted_without_their_weights():
    """Parameters of the language models as their makers tell, in thousand millions."""
    expected = {"8b": 8.03, "13b": 13.0, "34b": 34.4, "phi3-3b": 3.82}
    for name, number in expected.items():
        model = build_on_meta(load_recipe(name, "train", TrainRecipe).config)
        count = sum(p.numel() for p in model.decoder.parameters()) / 1e9
        assert abs(count - number) < 0.01 * number, name


def test_on_meta_the_config_may_lie_beside_the_weights(tiny_recipe, language_model):
    folder, decoder, _ = language_model()
    empty = build_on_meta(pretrained(tiny_recipe, folder))
    assert sum(p.numel() for p in empty.decoder.parameters()) == decoder.num_parameters()

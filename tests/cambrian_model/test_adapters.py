"""Adapters on the language model: what learns, merging, files, 4 bits."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from cambrian_data.records import UserError
from cambrian_model.adapters import (
    add_adapters,
    has_adapters,
    load_adapters,
    merge_adapters,
    quantize_decoder,
    save_adapters,
    train_adapters,
)
from cambrian_model.config import CambrianConfig
from cambrian_model.conversation import IMAGE_TOKEN_INDEX
from cambrian_model.files.published import export_published
from cambrian_model.model import CambrianModel
from cambrian_model.recipe import AdapterRecipe
from cambrian_model.vision import Pictures

pytest.importorskip("peft")
RECIPE = AdapterRecipe(rank=4, alpha=8)
IDS = torch.tensor([[5, 6, IMAGE_TOKEN_INDEX, 7, 8]])
SIZES = [(40, 30)]


def make_model(kind="llama", **decoder):
    torch.manual_seed(1)
    connector = {"hidden_size": 16, "num_heads": 4, "num_layers": 1, "query_grids": [4]}
    settings = {
        "model_type": kind,
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 2,
    }
    config = CambrianConfig(
        tower_shapes=[[12, 4], [8, 8]],
        connector=connector | {"in_decoder": {"start": 0, "stride": 1, "count": 2}},
        decoder=settings | decoder,
    )
    return CambrianModel(config).eval()


def pictures():
    generator = torch.Generator().manual_seed(5)
    maps = [(1, 16, 12), (1, 64, 8)]
    return Pictures(SIZES, features=[torch.randn(shape, generator=generator) for shape in maps])


def logits_of(model):
    with torch.no_grad():
        return model(IDS, pictures=pictures()).logits


def loss_of(model):
    return model(IDS, labels=IDS.clamp(min=-100), pictures=pictures()).loss


def stir(model):
    """Let the adapters do something, as training would."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    return model


@pytest.fixture(scope="module", autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["llama", "phi3", "gemma"])
def test_adapters_change_nothing_at_first_and_merge_into_the_same_logits(kind):
    plain = make_model(kind)
    names = plain.state_dict().keys()
    before = logits_of(plain)
    model = add_adapters(plain, RECIPE)
    assert has_adapters(model)
    assert_close(logits_of(model), before)
    after = logits_of(stir(model))
    assert (after - before).abs().max() > 1e-3
    merged = merge_adapters(model)
    assert not has_adapters(merged)
    assert merged.state_dict().keys() == names
    assert_close(logits_of(merged), after, atol=1e-5, rtol=1e-5)


def test_what_learns_is_adapters_and_connector():
    model = add_adapters(make_model(), RECIPE)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        name
        for name, _ in model.named_parameters()
        if name.startswith("connector.") or ".lora_" in name
    }
    adapted = {name.split(".lora_")[0] for name in learning if ".lora_" in name}
    assert len(adapted) == 2 * 7  # every linear layer of two blocks, not the head
    train_adapters(model, embeddings=True)
    more = {name for name, p in model.named_parameters() if p.requires_grad} - learning
    assert more == {"decoder.model.embed_tokens.weight", "decoder.lm_head.weight"}


def test_the_loss_reaches_adapters_and_connector_through_checkpointed_layers():
    gradients = []
    for checkpointed in (False, True):
        model = stir(add_adapters(make_model(), RECIPE)).train()
        if checkpointed:
            model.use_checkpointing(partial(checkpoint, use_reentrant=False))
        loss_of(model).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    plain, again = gradients
    assert all(g is not None and g.abs().max() > 0 for n, g in plain.items() if ".lora_" in n)
    for name, gradient in plain.items():
        if gradient is not None:
            assert_close(again[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_only_the_named_layers_are_adapted_and_the_seed_decides():
    recipe = AdapterRecipe(rank=2, alpha=2, target_modules=("q_proj", "v_proj"), seed=7)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one = add_adapters(make_model(), recipe)
    torch.manual_seed(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    other = add_adapters(make_model(), recipe)
    adapted = {n.split(".")[-4] for n, _ in one.named_parameters() if ".lora_" in n}
    assert adapted == {"q_proj", "v_proj"}
    theirs = other.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())
    with pytest.raises(UserError, match=r"the linear layers are down_proj, gate_proj, k_proj"):
        add_adapters(make_model(), AdapterRecipe(target_modules=("c_attn",)))
    with pytest.raises(UserError, match="has adapters already"):
        add_adapters(one, recipe)


@pytest.mark.parametrize("embeddings", [False, True])
def test_adapters_are_saved_small_and_loaded_back(tmp_path, embeddings):
    model = add_adapters(make_model(), RECIPE.model_copy(update={"train_embeddings": embeddings}))
    stir(model)
    with torch.no_grad():
        model.connector.image_newline += 1
        if embeddings:
            model.get_input_embeddings().weight += 0.5
    save_adapters(model, tmp_path, base="the base")
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (told["r"], told["base_model_name_or_path"]) == (4, "the base")
    loaded = load_adapters(make_model(), tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(model))
    learning = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, loaded)]
    assert learning[0] == learning[1]
    with pytest.raises(UserError, match="gate_proj.* unknown"):
        load_adapters(make_model("phi3"), tmp_path)
    with pytest.raises(UserError, match="holds no adapters"):
        load_adapters(make_model(), tmp_path / "nothing")
    with pytest.raises(UserError, match="no adapters to save"):
        save_adapters(make_model(), tmp_path)


def test_a_merged_model_is_saved_and_exported_under_plain_names(tmp_path):
    model = stir(add_adapters(make_model(tie_word_embeddings=True), RECIPE))
    with pytest.raises(UserError, match="merge them first"):
        export_published(model, None, tmp_path)
    expected = logits_of(model)
    merge_adapters(model).save_pretrained(tmp_path)
    loaded = CambrianModel.from_pretrained(tmp_path)
    assert_close(logits_of(loaded), expected, atol=1e-5, rtol=1e-5)
    assert loaded.decoder.lm_head.weight is loaded.decoder.model.embed_tokens.weight
    export_published(model, None, tmp_path / "published")
    published = CambrianModel.from_pretrained(tmp_path / "published")
    assert torch.equal(logits_of(published), logits_of(loaded))


def test_peft_itself_can_load_the_folder(tmp_path):
    from peft import PeftModel

    model = stir(add_adapters(make_model(), RECIPE))
    save_adapters(model, tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    theirs = PeftModel.from_pretrained(make_model().decoder, tmp_path)
    with torch.no_grad():
        assert_close(theirs(ids).logits, model.decoder(ids).logits)


def test_without_bitsandbytes_4_bits_are_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        add_adapters(make_model(), AdapterRecipe(quantize="4bit"))


def test_4_bits_learn_and_become_plain_weights_again():
    pytest.importorskip("bitsandbytes")
    plain = logits_of(make_model())
    model = add_adapters(make_model(), RECIPE.model_copy(update={"quantize": "4bit"}))
    linear = model.decoder.model.layers[0].self_attn.q_proj.base_layer
    assert linear.weight.dtype == torch.uint8
    before = logits_of(model)
    assert 0 < (before - plain).abs().max() < plain.abs().max()
    loss_of(stir(model).train()).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if ".lora_" in n)
    after = logits_of(model.eval())
    names = make_model().state_dict().keys()
    merged = merge_adapters(model)
    assert merged.state_dict().keys() == names
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert_close(logits_of(merged), after, atol=1e-4, rtol=1e-4)


def test_a_quantised_language_model_alone_is_merged_too():
    pytest.importorskip("bitsandbytes")
    model = make_model()
    quantize_decoder(model)
    expected = logits_of(model)
    assert_close(logits_of(merge_adapters(model)), expected, atol=1e-4, rtol=1e-4)

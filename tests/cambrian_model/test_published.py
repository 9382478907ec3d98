"""Published folders: their config and names, strict loading, the way back, the stage-1 file."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from cambrian_data.records import UserError
from cambrian_model.config import CambrianConfig
from cambrian_model.conversation import image_position, template_of
from cambrian_model.files.published import (
    export_published,
    is_published,
    load_connector,
    load_published,
    load_tokenizer,
    published_config,
    read_published_config,
    save_connector,
)
from cambrian_model.files.saved import write_weights
from cambrian_model.model import CambrianModel
from cambrian_model.tokenizer import train_tokenizer

RELEASED = {
    "architectures": ["CambrianLlamaForCausalLM"],
    "model_type": "cambrian_llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-05,
    "torch_dtype": "bfloat16",
    "image_token_len": 576,
    "num_query_group": 1,
    "query_num_list": [576],
    "connector_depth": 3,
    "connector_only": False,
    "vision_hidden_size": 1024,
    "num_of_vision_sampler_layers": 10,
    "start_of_vision_sampler_layers": 0,
    "stride_of_vision_sampler_layers": 3,
    "image_position": 91,
    "mm_projector_type": "sva",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "mm_vision_tower_aux_list": [
        "siglip/CLIP-ViT-SO400M-14-384",
        "openai/clip-vit-large-patch14-336",
        "facebook/dinov2-giant-res378",
        "clip-convnext-XXL-multi-stage",
    ],
    "mm_vision_tower_aux_token_len_list": [576, 576, 576, 9216],
    "tokenizer_model_max_length": 2048,
}
"""As TOWERS.md tells of the 8B model."""
OUR_TOWERS = ["siglip-so400m@384", "clip-l@336", "dinov2-giant@378", "convnext-xxl@1024"]
TINY = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture
def golden_c(read_case):
    """Return the published config of golden case C and its weights."""
    meta, _, weights = read_case("c_llama_g1")
    return meta["config"] | {"model_type": "cambrian_llama"}, weights


def make_model(kind="llama", towers=("tiny-clip", "tiny-convnext"), **changes):
    torch.manual_seed(0)
    connector = {"hidden_size": 16, "num_heads": 4, "num_layers": 2, "query_grids": [4, 2]}
    connector["in_decoder"] = {"start": 0, "stride": 1, "count": 2}
    config = CambrianConfig(
        towers=list(towers),
        connector=connector,
        decoder=TINY | {"model_type": kind} | changes,
        system="Be brief.",
        max_tokens=300,
    )
    return CambrianModel(config).eval()


def write_folder(folder, config, weights, **kwargs):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_weights(weights, folder, **kwargs)
    return folder


def same_state(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())


# -------------------------------------------------------------------------------------- config


def test_a_released_config_is_read_in_full():
    found = read_published_config(RELEASED)
    assert found.towers == OUR_TOWERS
    assert found.template == "llama_3"
    assert found.max_tokens == 2048
    assert found.connector == {
        "kind": "sva",
        "layer_type": "joint",
        "num_heads": 16,
        "hidden_size": 1024,
        "num_layers": 3,
        "query_grids": [24],
        "grid": 24,
        "in_decoder": {"start": 0, "stride": 3, "count": 10},
    }
    assert found.decoder["model_type"] == "llama"
    assert not {key for key in found.decoder if key.startswith(("mm_", "image_", "vision_"))}


def test_a_released_config_is_written_back_as_it_was():
    found = published_config(read_published_config(RELEASED))
    left_out = {"image_position", "torch_dtype"}  # of the tokenizer and of the weights
    assert {key: found[key] for key in RELEASED if key not in left_out} == {
        key: value for key, value in RELEASED.items() if key not in left_out
    }
    again = read_published_config(found)
    assert published_config(again) == found


def test_the_whole_released_model_has_the_published_names():
    """Without memory: sizes from the config alone, names of golden case C."""
    with torch.device("meta"):
        model = CambrianModel(read_published_config(RELEASED))
    parts = {
        "decoder": sum(p.numel() for p in model.decoder.parameters()),
        "towers": sum(p.numel() for p in model.towers.parameters()),
    }
    assert parts["decoder"] == 8_030_261_248  # as Meta tells of Llama 3 8B
    assert 2.6e9 < parts["towers"] < 2.8e9
    assert len(model.connector.vision_sampler_layers) == 10


@pytest.mark.parametrize(
    ("changes", "template"),
    [
        ({"hidden_size": 5120, "vocab_size": 32000}, "vicuna_v1"),
        ({"hidden_size": 7168, "vocab_size": 64000}, "chatml_direct"),
        ({"hidden_size": 3072, "vocab_size": 32064, "model_type": "cambrian_phi3"}, "phi3"),
    ],
)
def test_each_released_size_has_its_template(changes, template):
    assert read_published_config(RELEASED | changes).template == template


def test_an_unknown_size_needs_its_template_named():
    with pytest.raises(UserError, match="width 96 and 128256 tokens.*give template="):
        read_published_config(RELEASED | {"hidden_size": 96})
    found = read_published_config(RELEASED | {"hidden_size": 96}, template="phi3")
    assert found.template == "phi3"


def test_the_architecture_names_the_language_model_where_the_type_does_not():
    config = {key: value for key, value in RELEASED.items() if key != "model_type"}
    assert read_published_config(config).decoder["model_type"] == "llama"
    with pytest.raises(UserError, match="names no language model"):
        read_published_config(config | {"architectures": None})


def test_a_grid_finer_than_its_queries_and_the_mlp_are_read():
    coarse = read_published_config(RELEASED | {"query_num_list": [144]}).connector
    assert (coarse["query_grids"], coarse["grid"]) == ([12], 24)
    mlp = read_published_config(RELEASED | {"mm_projector_type": "mlp2x_gelu"}).connector
    assert mlp == {"kind": "mlp2x_gelu", "query_grids": [24]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature is 'cls_patch'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"mm_projector_type": "linear"}, "mm_projector_type is 'linear'"),
        ({"image_token_len": 500}, "image_token_len is 500"),
        ({"image_token_len": 144}, "coarser than 576"),
        ({"mm_vision_tower_aux_token_len_list": [576]}, "names 4 towers"),
        ({"mm_vision_tower_aux_list": ["eva/CLIP-ViT-L-336"] * 4}, "eva/CLIP-ViT-L-336"),
    ],
)
def test_what_is_not_supported_is_told(changes, told):
    with pytest.raises(UserError, match=told):
        read_published_config(RELEASED | changes)


def test_only_published_configs_are_taken_for_such():
    assert is_published(RELEASED)
    assert not is_published({"model_type": "llama"})
    assert not is_published(make_model().config.to_dict())


# ------------------------------------------------------------------------------------- folders


def test_golden_c_is_loaded_and_exported_byte_for_byte(golden_c, tmp_path):
    config, weights = golden_c
    folder = write_folder(tmp_path / "in", config, weights)
    model = load_published(folder, template="llama_3")
    export_published(model, None, tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(found[name], value), name
    written = json.loads((tmp_path / "out/config.json").read_text())
    kept = {key: value for key, value in config.items() if key != "image_position"}
    assert {key: written.get(key) for key in kept} == kept
    assert same_state(load_published(tmp_path / "out"), model)


@pytest.mark.parametrize("kind", ["llama", "phi3", "mistral", "gemma", "qwen2"])
def test_an_exported_model_is_loaded_as_it_was(kind, tmp_path):
    model = make_model(kind)
    export_published(model, None, tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = CambrianModel.from_pretrained(tmp_path)
    assert same_state(loaded, model)
    for key in ("towers", "template", "system", "max_tokens"):
        assert getattr(loaded.config, key) == getattr(model.config, key)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_tied_weights_are_written_once(tmp_path):
    export_published(make_model(tie_word_embeddings=True), None, tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    loaded = load_published(tmp_path)
    assert loaded.decoder.lm_head.weight is loaded.decoder.model.embed_tokens.weight


def test_shards_of_torch_are_read_and_code_in_them_is_not_run(golden_c, tmp_path):
    config, weights = golden_c
    names = sorted(weights)
    folder = write_folder(tmp_path / "in", config, {})
    (folder / "model.safetensors").unlink(missing_ok=True)
    derived = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}
    parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part} | derived, folder / file)
    index = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    model = load_published(folder, template="llama_3")
    assert torch.equal(model.connector.vision_query, weights["model.vision_query"])
    torch.save({"x": print}, folder / "pytorch_model-2.bin")
    with pytest.raises(UserError, match="damaged or holds more than tensors"):
        load_published(folder, template="llama_3")
    (folder / "pytorch_model-2.bin").unlink()
    with pytest.raises(UserError, match=r"names pytorch_model-2\.bin, which is missing"):
        load_published(folder, template="llama_3")


def test_names_that_do_not_fit_are_listed(golden_c, tmp_path):
    config, weights = golden_c
    wrong = dict(weights)
    del wrong["model.vision_query"]
    wrong["model.layers.9.odd"] = torch.zeros(1)
    wrong["model.image_newline"] = torch.zeros(3)
    folder = write_folder(tmp_path, config, wrong)
    with pytest.raises(UserError) as error:
        load_published(folder, template="llama_3")
    told = str(error.value)
    assert "model.vision_query missing" in told
    assert "model.layers.9.odd unknown" in told
    assert "model.image_newline (3,) for (64,) of another shape" in told


def test_towers_without_weights_anywhere_are_told(tmp_path):
    export_published(make_model(), None, tmp_path, with_towers=False)
    with pytest.raises(UserError, match="holds no weights of the tower tiny-clip"):
        load_published(tmp_path)
    with pytest.raises(UserError, match="tower_weights names clip-l"):
        load_published(tmp_path, tower_weights={"clip-l": "somewhere"})


def test_towers_come_from_files_of_their_own(tmp_path):
    model = make_model()
    export_published(model, None, tmp_path / "model", with_towers=False)
    places = {}
    for name, tower in zip(model.config.towers, model.towers, strict=True):
        places[name] = tmp_path / f"{name}.safetensors"
        save_file(tower.body.vision_tower.state_dict(), places[name])
    assert same_state(load_published(tmp_path / "model", tower_weights=places), model)


def test_towers_that_were_trained_lie_inside_under_the_names_of_their_library(tmp_path):
    """The published code stores `vision_tower_aux_list.I.vision_tower.<names of the library>`."""
    model = make_model()
    export_published(model, None, tmp_path)
    file = tmp_path / "model.safetensors"
    renamed = {
        name.replace(".body.vision_tower.", ".vision_tower."): value
        for name, value in load_file(file).items()
    }
    assert any("vision_tower_aux_list.1.vision_tower." in name for name in renamed)
    save_file(renamed, file)
    assert same_state(load_published(tmp_path), model)


def test_a_smaller_type_of_weights_may_be_asked_for(golden_c, tmp_path):
    config, weights = golden_c
    folder = write_folder(tmp_path, config, weights)
    model = load_published(folder, template="llama_3", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    expected = weights["model.vision_query"].bfloat16()
    assert torch.equal(model.connector.vision_query, expected)


def test_another_place_of_the_picture_is_warned_of(tmp_path, caplog):
    template = template_of("llama_3")
    tokenizer = train_tokenizer(["some text to learn from"] * 9, 320, template)
    model = make_model(vocab_size=len(tokenizer))
    export_published(model, tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["image_position"] == image_position(template, tokenizer, "Be brief.")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "cambrian_model"):
        load_published(tmp_path)
        assert not caplog.records
        (tmp_path / "config.json").write_text(json.dumps(config | {"image_position": 91}))
        load_published(tmp_path)
    assert "image_position is 91" in caplog.text
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_a_folder_without_weights_config_or_tokenizer_is_told(golden_c, tmp_path):
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(golden_c[0]))
    with pytest.raises(UserError, match="holds no weights"):
        load_published(tmp_path, template="llama_3")
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


# --------------------------------------------------------------------------- the stage-1 file


@pytest.mark.parametrize("prefix", ["", "module.", "base_model.model."])
def test_a_published_connector_is_loaded(golden_c, tmp_path, prefix):
    config, weights = golden_c
    stage_1 = {
        name: value
        for name, value in weights.items()
        if not name.startswith(("model.layers", "lm_head", "model.embed", "model.norm"))
    }
    torch.save({prefix + name: v for name, v in stage_1.items()}, tmp_path / "mm_projector.bin")
    model = CambrianModel(read_published_config(config, template="llama_3"))
    before = model.decoder.lm_head.weight.clone()
    load_connector(model, tmp_path / "mm_projector.bin")
    for name, value in model.connector.state_dict().items():
        assert torch.equal(value, stage_1[f"model.{name}"]), name
    assert torch.equal(model.decoder.lm_head.weight, before)


@pytest.mark.parametrize("file", ["mm_projector.bin", "connector.safetensors"])
def test_a_saved_connector_is_loaded_strictly(tmp_path, file):
    model, other = make_model(), make_model()
    torch.nn.init.ones_(other.connector.vision_query)
    save_connector(model, tmp_path / file)
    load_connector(other, tmp_path / file)
    assert same_state(other.connector, model.connector)
    small = make_model()
    small.connector.vision_sampler_layers = torch.nn.ModuleList()
    with pytest.raises(UserError, match=r"model\.vision_sampler_layers\.0.* unknown"):
        load_connector(small, tmp_path / file)
    save_connector(small, tmp_path / file)
    with pytest.raises(UserError, match=r"model\.vision_sampler_layers\.0.* missing"):
        load_connector(other, tmp_path / file)
    with pytest.raises(UserError, match="there is no file"):
        load_connector(other, tmp_path / "gone.bin")


# ------------------------------------------------------------------------------- the tokenizer


def test_a_folder_with_a_sentencepiece_model_alone_has_a_tokenizer(golden_folder, tmp_path):
    """As the 13B and 34B models are released; its ids are those of the library."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = golden_folder / "f_tokenizer_sentencepiece.model"
    (tmp_path / "tokenizer.model").write_bytes(model.read_bytes())
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    tokenizer = load_tokenizer(tmp_path)
    expected = sentencepiece.SentencePieceProcessor(model_file=str(model))
    text = "A chat between a curious user and an assistant. USER: What is this?"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected.encode(text)
    assert tokenizer.bos_token_id == expected.bos_id()

"""Weights of towers: conversions against plain models in the naming of their libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from cambrian_data.records import UserError
from cambrian_model import vision
from cambrian_model.towers import weights as tower_weights
from cambrian_model.towers.models import (
    ClipTower,
    ConvNextTower,
    Dinov2Tower,
    SamTower,
    SiglipTower,
)
from cambrian_model.towers.weights import load_tower_state, load_tower_weights, tower_weights_id
from cambrian_model.vision import Tower, tower_spec

SIZES = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3}
VIT = SIZES | {"num_attention_heads": 4, "image_size": 42, "patch_size": 14}
EXACT = {"hidden_act": "gelu", "layer_norm_eps": 1e-6}
BODIES = {
    "siglip-so400m": partial(SiglipTower, VIT | EXACT),
    "clip-l": partial(ClipTower, VIT | {"hidden_act": "quick_gelu"}),
    "dfn-l": partial(ClipTower, VIT | {"hidden_act": "quick_gelu"}, -1, with_final_norm=True),
    "dinov2-giant": partial(
        Dinov2Tower,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 42,
            "patch_size": 14,
            "use_swiglu_ffn": True,
        },
    ),
    "convnext-xxl": partial(
        ConvNextTower,
        {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]},
        8,
        norm_eps=1e-5,
    ),
    "sam-b": partial(
        SamTower,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "mlp_dim": 48,
            "image_size": 64,
            "window_size": 3,
            "global_attn_indexes": [1],
        },
    ),
}


@pytest.fixture
def small_tower(monkeypatch):
    """Return a maker of small towers that bear a real one's name."""

    def make(family, **changes):
        spec = replace(tower_spec(family), build=BODIES[family], **changes)
        with monkeypatch.context() as patch:
            patch.setattr(vision, "tower_spec", lambda _: spec)
            return Tower(family)

    return make


def _random(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.2
        is_norm = len(shape) == 1 and name.endswith("weight")
        state[name] = value + 1 if is_norm or name.endswith("gamma") else value
    return state


def _norm(state, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def _linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _attend(qkv_BN3D, num_heads):
    """Attend over all tokens, written out."""
    batch, tokens, _ = qkv_BN3D.shape
    parts = qkv_BN3D.view(batch, tokens, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys, values = parts
    weights = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)
    return (weights @ values).transpose(1, 2).reshape(batch, tokens, -1)


# ------------------------------------------------------------------------------------ SigLIP


def _timm_siglip(trunk="visual.trunk."):
    shapes = {"patch_embed.proj.weight": (32, 3, 14, 14), "patch_embed.proj.bias": (32,)}
    shapes |= {"pos_embed": (1, 9, 32), "norm.weight": (32,), "norm.bias": (32,)}
    for layer in range(3):
        wide = {"attn.qkv": (96, 32), "attn.proj": (32, 32), "mlp.fc1": (40, 32)}
        for name, shape in (wide | {"mlp.fc2": (32, 40)}).items():
            shapes |= {f"blocks.{layer}.{name}.weight": shape}
            shapes |= {f"blocks.{layer}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{layer}.{name}.{part}": (32,) for part in ("weight", "bias")}
    shapes |= {"attn_pool.latent": (1, 1, 32), "attn_pool.mlp.fc1.weight": (40, 32)}
    return {trunk + name: value for name, value in _random(shapes).items()}


def _run_timm_siglip(state, pixels):
    state = {name.removeprefix("visual.trunk."): value for name, value in state.items()}
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    x = F.conv2d(pixels, weight, bias, stride=14).flatten(2).transpose(1, 2) + state["pos_embed"]
    for layer in range(3):
        block = f"blocks.{layer}"
        qkv = _linear(state, f"{block}.attn.qkv", _norm(state, f"{block}.norm1", x, 1e-6))
        x = x + _linear(state, f"{block}.attn.proj", _attend(qkv, 4))
        inner = _linear(state, f"{block}.mlp.fc1", _norm(state, f"{block}.norm2", x, 1e-6))
        x = x + _linear(state, f"{block}.mlp.fc2", F.gelu(inner))
    return _norm(state, "norm", x, 1e-6)


TEXT = {
    "text.transformer.w": torch.ones(2),
    "logit_scale": torch.ones(()),
    "logit_bias": torch.ones(()),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_siglip_of_timm_gives_the_same_features(small_tower, tmp_path, suffix):
    from safetensors.torch import save_file

    state, file = _timm_siglip(), tmp_path / f"open_clip{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(state | TEXT, file)
    tower = small_tower("siglip-so400m", px=42, grid=3, width=32)
    load_tower_weights(tower, file)
    pixels = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(tower(pixels), _run_timm_siglip(state, pixels), atol=1e-5, rtol=1e-5)


def test_the_kind_of_gelu_makes_a_difference(small_tower):
    state, pixels = _timm_siglip(), torch.randn(1, 3, 42, 42)
    for layer in range(3):  # the two differ most at 2 to 3, where few values lie
        state[f"visual.trunk.blocks.{layer}.mlp.fc1.weight"] *= 3
    tower = small_tower("siglip-so400m", px=42, grid=3, width=32)
    load_tower_state(tower, state, "test")
    for layer in tower.body.vision_tower.encoder.layers:
        layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")
    assert (tower(pixels) - _run_timm_siglip(state, pixels)).abs().max() > 1e-4


# ---------------------------------------------------------------------------------- ConvNeXt

WIDTHS, DEPTHS = (8, 12, 16, 20), (1, 2, 1, 1)


def _timm_convnext(trunk="visual.trunk."):
    shapes = {"stem.0.weight": (8, 3, 4, 4), "stem.0.bias": (8,)}
    shapes |= {"stem.1.weight": (8,), "stem.1.bias": (8,)}
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        if stage:
            before = WIDTHS[stage - 1]
            shapes |= {f"stages.{stage}.downsample.0.{p}": (before,) for p in ("weight", "bias")}
            shapes[f"stages.{stage}.downsample.1.weight"] = (width, before, 2, 2)
            shapes[f"stages.{stage}.downsample.1.bias"] = (width,)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            shapes |= {f"{name}.gamma": (width,), f"{name}.conv_dw.weight": (width, 1, 7, 7)}
            shapes |= {f"{name}.conv_dw.bias": (width,), f"{name}.norm.weight": (width,)}
            shapes |= {f"{name}.norm.bias": (width,), f"{name}.mlp.fc1.bias": (4 * width,)}
            shapes |= {f"{name}.mlp.fc1.weight": (4 * width, width)}
            shapes |= {f"{name}.mlp.fc2.weight": (width, 4 * width)}
            shapes |= {f"{name}.mlp.fc2.bias": (width,)}
    shapes |= {"head.norm.weight": (20,), "head.norm.bias": (20,)}
    return {trunk + name: value for name, value in _random(shapes).items()}


def _channel_norm(state, name, x, eps):
    return _norm(state, name, x.permute(0, 2, 3, 1), eps).permute(0, 3, 1, 2)


def _run_timm_convnext(state, pixels, eps):
    """Return the output of each stage, (B, D, H, W)."""
    state = {name.removeprefix("visual.trunk."): value for name, value in state.items()}
    x = F.conv2d(pixels, state["stem.0.weight"], state["stem.0.bias"], stride=4)
    x, taken = _channel_norm(state, "stem.1", x, eps), []
    for stage, depth in enumerate(DEPTHS):
        if stage:
            down = f"stages.{stage}.downsample"
            x = _channel_norm(state, f"{down}.0", x, eps)
            x = F.conv2d(x, state[f"{down}.1.weight"], state[f"{down}.1.bias"], stride=2)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            weight, bias = state[f"{name}.conv_dw.weight"], state[f"{name}.conv_dw.bias"]
            y = F.conv2d(x, weight, bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            y = F.gelu(_linear(state, f"{name}.mlp.fc1", _norm(state, f"{name}.norm", y, eps)))
            y = _linear(state, f"{name}.mlp.fc2", y) * state[f"{name}.gamma"]
            x = x + y.permute(0, 3, 1, 2)
        taken.append(x)
    return taken


def _on_grid(stages, side):
    maps = [F.interpolate(stage, (side, side), mode="bilinear") for stage in stages]
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=-1)


def test_convnext_of_open_clip_gives_the_same_stages(small_tower, tmp_path):
    state = _timm_convnext()
    file = tmp_path / "open_clip_pytorch_model.bin"
    rest = {"visual.head.proj.weight": torch.ones(4, 20), "logit_scale": torch.ones(())}
    rest |= {"transformer.resblocks.0.ln_1.weight": torch.ones(2)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in (state | rest).items()}}, file)
    tower = small_tower("convnext-xxl", px=128, grid=8, width=56)
    load_tower_weights(tower, tmp_path)
    pixels = torch.randn(2, 3, 128, 128)
    expected = _on_grid(_run_timm_convnext(state, pixels, 1e-5), 8)
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)
    dark = torch.full((1, 3, 128, 128), 1e-3)  # where the epsilon of the norms is seen
    other = _on_grid(_run_timm_convnext(state, dark, 1e-6), 8)
    assert (tower(dark) - _on_grid(_run_timm_convnext(state, dark, 1e-5), 8)).abs().max() < 1e-5
    assert (tower(dark) - other).abs().max() > 1e-5


def test_the_last_stage_alone(small_tower):
    tower = small_tower("convnext-xxl", px=128, grid=4, width=20)
    tower.body.stages, tower.body.grid = "last", 4
    state, pixels = _timm_convnext("trunk."), torch.randn(1, 3, 128, 128)
    load_tower_state(tower, state, "test")
    plain = {f"visual.{name}": value for name, value in state.items()}
    stages = _run_timm_convnext(plain, pixels, 1e-5)[-1:]
    torch.testing.assert_close(tower(pixels), _on_grid(stages, 4), atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------ OpenCLIP ViT


def _open_clip_vit():
    shapes = {"class_embedding": (32,), "positional_embedding": (10, 32), "proj": (32, 6)}
    shapes |= {"conv1.weight": (32, 3, 14, 14)}
    shapes |= {f"ln_{n}.{p}": (32,) for n in ("pre", "post") for p in ("weight", "bias")}
    for layer in range(3):
        block = f"transformer.resblocks.{layer}"
        shapes |= {f"{block}.ln_{n}.{p}": (32,) for n in (1, 2) for p in ("weight", "bias")}
        shapes |= {f"{block}.attn.in_proj_weight": (96, 32), f"{block}.attn.in_proj_bias": (96,)}
        wide = {"attn.out_proj": (32, 32), "mlp.c_fc": (40, 32), "mlp.c_proj": (32, 40)}
        for name, shape in wide.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    return {f"visual.{name}": value for name, value in _random(shapes).items()}


def _run_open_clip_vit(state, pixels, num_layers):
    state = {name.removeprefix("visual."): value for name, value in state.items()}
    patches = F.conv2d(pixels, state["conv1.weight"], stride=14).flatten(2).transpose(1, 2)
    first = state["class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([first, patches], dim=1) + state["positional_embedding"]
    x = _norm(state, "ln_pre", x, 1e-5)
    for layer in range(num_layers):
        block = f"transformer.resblocks.{layer}"
        inner = _norm(state, f"{block}.ln_1", x, 1e-5)
        weight, bias = state[f"{block}.attn.in_proj_weight"], state[f"{block}.attn.in_proj_bias"]
        x = x + _linear(state, f"{block}.attn.out_proj", _attend(F.linear(inner, weight, bias), 4))
        inner = _linear(state, f"{block}.mlp.c_fc", _norm(state, f"{block}.ln_2", x, 1e-5))
        inner = inner * torch.sigmoid(1.702 * inner)
        x = x + _linear(state, f"{block}.mlp.c_proj", inner)
    return state, x


def test_dfn_of_open_clip_gives_the_tokens_after_the_last_norm(small_tower):
    state, pixels = _open_clip_vit(), torch.randn(2, 3, 42, 42)
    tower = small_tower("dfn-l", px=42, grid=3, width=32)
    load_tower_state(tower, state | {"logit_scale": torch.ones(())}, "test")
    plain, x = _run_open_clip_vit(state, pixels, 3)
    expected = _norm(plain, "ln_post", x, 1e-5)[:, 1:]
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)


def test_clip_takes_the_last_layer_but_one(small_tower):
    state, pixels = _open_clip_vit(), torch.randn(2, 3, 42, 42)
    tower = small_tower("clip-l", px=42, grid=3, width=32)
    load_tower_state(tower, state, "test")
    expected = _run_open_clip_vit(state, pixels, 2)[1][:, 1:]
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------ transformers


def _own_state(tower):
    return {k: torch.randn(v.shape) for k, v in tower.body.vision_tower.state_dict().items()}


def _equal(tower, state):
    own = tower.body.vision_tower.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in own)


BESIDE = {
    "siglip-so400m": ("vision_model.", ["vision_model.head.probe", "text_model.x", "logit_bias"]),
    "clip-l": ("vision_model.", ["vision_model.embeddings.position_ids", "text_projection.weight"]),
    "dinov2-giant": ("dinov2.", ["classifier.weight"]),
    "convnext-xxl": ("convnext.", ["convnext.layernorm.weight", "classifier.bias"]),
    "sam-b": ("", ["vision_encoder.neck.conv1.weight", "mask_decoder.x", "prompt_encoder.y"]),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_in_the_names_of_transformers(small_tower, name, is_whole):
    tower = small_tower(name)
    state = _own_state(tower)
    prefix, beside = BESIDE[name]
    extra = dict.fromkeys(beside if is_whole else [], torch.ones(1))
    load_tower_state(tower, {(prefix * is_whole) + k: v for k, v in state.items()} | extra, "test")
    assert _equal(tower, state)


def test_what_the_classes_save_can_be_loaded(small_tower, tmp_path):
    for name in BESIDE:
        tower, other = small_tower(name), small_tower(name)
        tower.body.vision_tower.save_pretrained(tmp_path / name)
        load_tower_weights(other, tmp_path / name)
        assert _equal(other, tower.body.vision_tower.state_dict()), name


def test_dinov2_in_the_names_of_older_transformers(small_tower):
    tower = small_tower("dinov2-giant")
    state, old = _own_state(tower), {}
    for name, value in state.items():
        for new, before in (("q", "query"), ("k", "key"), ("v", "value")):
            name = name.replace(f"attention.{new}_proj", f"attention.attention.{before}")
        name = name.replace("attention.o_proj", "attention.output.dense")
        old[name.replace("down_proj", "weights_out")] = value
    for name in [name for name in old if "gate_proj" in name]:
        halves = [old.pop(name), old.pop(name.replace("gate_proj", "up_proj"))]
        old[name.replace("gate_proj", "weights_in")] = torch.cat(halves)
    load_tower_state(tower, old, "test")
    assert _equal(tower, state)


def test_sam_in_its_own_names(small_tower):
    tower = small_tower("sam-b")
    state, old = _own_state(tower), {}
    for name, value in state.items():
        name = name.replace("vision_encoder.", "image_encoder.").replace(".layers.", ".blocks.")
        name = name.replace("layer_norm", "norm").replace(
            "patch_embed.projection", "patch_embed.proj"
        )
        old[name] = value
    old |= {"image_encoder.neck.0.weight": torch.ones(1), "mask_decoder.x": torch.ones(1)}
    load_tower_state(tower, old, "test")
    assert _equal(tower, state)


def test_a_tower_without_memory_gets_the_tensors(small_tower):
    state = _timm_siglip()
    with torch.device("meta"):
        tower = small_tower("siglip-so400m", px=42, grid=3, width=32)
    assert next(tower.parameters()).is_meta
    load_tower_state(tower, state, "test")
    pixels = torch.randn(1, 3, 42, 42)
    torch.testing.assert_close(tower(pixels), _run_timm_siglip(state, pixels), atol=1e-5, rtol=1e-5)
    assert not any(p.requires_grad for p in tower.parameters())


def test_weights_take_the_type_of_the_tower(small_tower):
    tower = small_tower("clip-l")
    tower.set_frozen(True, torch.bfloat16)
    state = _own_state(tower)
    load_tower_state(tower, state, "test")
    assert {v.dtype for v in tower.state_dict().values()} == {torch.bfloat16}


# ------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("visual.trunk.norm.bias"), "post_layernorm.bias missing"),
        (lambda s: s.update({"visual.trunk.extra": torch.ones(1)}), "visual.trunk.extra unknown"),
        (lambda s: s.update({"audio.x": torch.ones(1)}), "audio.x unknown"),
        (
            lambda s: s.update({"visual.trunk.pos_embed": torch.ones(1, 4, 32)}),
            r"visual.trunk.pos_embed \(1, 4, 32\) for \(9, 32\) of another shape",
        ),
        (lambda s: s.clear(), "holds no weights of a siglip tower"),
    ],
)
def test_every_fault_is_named_and_nothing_changes(small_tower, change, told):
    tower = small_tower("siglip-so400m", px=42)
    before = tower_weights_id(tower)
    state = _timm_siglip()
    change(state)
    with pytest.raises(UserError, match=told):
        load_tower_state(tower, state, "weights.pt")
    assert tower_weights_id(tower) == before


def test_another_tower_s_weights_are_refused(small_tower):
    with pytest.raises(UserError, match=r"no weights of a clip tower such as clip-l@336"):
        load_tower_state(small_tower("clip-l"), _timm_convnext(), "weights.pt")


class _Runs:
    def __reduce__(self):
        return (print, ("ran",))


def test_a_file_that_would_run_code_is_refused(small_tower, tmp_path, capsys):
    torch.save({"x": _Runs()}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match="holds more than tensors"):
        load_tower_weights(small_tower("clip-l"), tmp_path / "bad.pt")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"junk", "model.safetensors", "is damaged"),
        (b"junk", "model.bin", "is damaged"),
        (b"", "model.pt", "is damaged"),
        (b"", "weights.npz", "weights are in files ending in"),
    ],
)
def test_files_that_cannot_be_read(small_tower, tmp_path, content, name, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        load_tower_weights(small_tower("clip-l"), tmp_path / name)


def test_places_that_do_not_exist(small_tower, tmp_path):
    tower = small_tower("clip-l")
    with pytest.raises(UserError, match="holds no weights: it needs one of model.safetensors"):
        load_tower_weights(tower, tmp_path)
    with pytest.raises(UserError, match="there is no file or folder"):
        load_tower_weights(tower, tmp_path / "absent" / "here")
    with pytest.raises(UserError, match="there is no file or folder"):
        load_tower_weights(tower, "weights/clip.safetensors")
    with pytest.raises(UserError, match="has no published weights"):
        load_tower_weights(Tower("tiny-clip"))


def test_a_folder_in_parts(small_tower, tmp_path):
    from safetensors.torch import save_file

    tower = small_tower("clip-l")
    state = _own_state(tower)
    names = list(state)
    halves = {"a.safetensors": names[:7], "b.safetensors": names[7:]}
    for file, part in halves.items():
        save_file({name: state[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    load_tower_weights(tower, tmp_path)
    assert _equal(tower, state)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"names b.safetensors: not there"):
        load_tower_weights(tower, tmp_path)


# --------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return an empty cache of the hub; there is no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_without_a_network_it_is_said_what_to_do(small_tower, hub):
    with pytest.raises(UserError, match=r"clip-vit-large-patch14-336.*hf download openai/clip"):
        load_tower_weights(small_tower("clip-l"))


def test_weights_in_the_cache_of_the_hub(small_tower, hub):
    tower = small_tower("clip-l", weights="made/up")
    state = _own_state(tower)
    folder = hub / "models--made--up"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    torch.save(state, folder / "snapshots" / "abc" / "pytorch_model.bin")
    load_tower_weights(tower)
    assert _equal(tower, state)


# ---------------------------------------------------------------------------------- identity


def test_the_identity_follows_weights_type_and_settings(small_tower):
    tower = small_tower("clip-l")
    first = tower_weights_id(tower)
    assert tower_weights_id(tower) == first
    other = small_tower("clip-l", name="clip-l@336:grid=12")
    other.load_state_dict(tower.state_dict())
    with torch.no_grad():
        next(tower.parameters()).view(-1)[0] += 1
    changed = tower_weights_id(tower)
    tower.set_frozen(True, torch.bfloat16)
    assert len({first, changed, tower_weights_id(tower), tower_weights_id(other)}) == 4


def test_every_kind_of_tower_has_layouts():
    kinds = {body.func.kind for body in BODIES.values()}
    assert kinds == set(tower_weights.LAYOUTS)

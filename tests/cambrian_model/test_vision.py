"""Towers: names, real sizes without memory, which features are taken, freezing, pixels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cambrian_data.records import UserError
from cambrian_model.pictures import normalise, pad_colour
from cambrian_model.towers.models import (
    ClipTower,
    ConvNextTower,
    Dinov2Tower,
    SamTower,
    SiglipTower,
)
from cambrian_model.towers.names import PUBLISHED_TOWERS, from_published, to_published
from cambrian_model.towers.registry import FAMILIES
from cambrian_model.vision import (
    RELEASED_TOWERS,
    Pictures,
    Tower,
    build_towers,
    encode,
    freeze_towers,
    normalise_pixels,
    num_parameters,
    tower_spec,
)

# ----------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("siglip-so400m", "siglip-so400m@384"),
        ("siglip-so400m@384:grid=24:act=gelu", "siglip-so400m@384"),
        ("siglip-so400m@224:act=gelu_tanh", "siglip-so400m@224:act=gelu_tanh"),
        ("clip-l:layer=-1:grid=12", "clip-l@336:grid=12:layer=-1"),
        ("clip-b16@224", "clip-b16"),
        ("dinov2-giant", "dinov2-giant@378"),
        ("dinov2-large@336", "dinov2-large@336"),
        ("convnext-xxl@768:stages=last:grid=24", "convnext-xxl@768:stages=last"),
        ("tiny-clip", "tiny-clip"),
    ],
)
def test_a_tower_has_one_canonical_name(name, canonical):
    spec = tower_spec(name)
    assert spec.name == canonical
    assert tower_spec(canonical).name == canonical


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("clip-l-336", "did you mean clip-l@336?"),
        ("dinov2-gaint@378", "did you mean dinov2-giant"),
        ("openai/clip-vit-large-patch14-336", "published name of clip-l@336"),
        ("", "the towers are siglip-so400m, clip-l"),
        ("clip-l@335", "its pictures have 336 or 224 px"),
        ("dinov2-giant@375", "378 px, or another multiple of 14"),
        ("dinov2-giant@0", "378 px, or another multiple of 14"),
        ("clip-l@", "its pictures have 336 or 224 px"),
        ("clip-l@336@336", "its pictures have 336 or 224 px"),
        ("clip-l:grid=0", "1 to 512, not '0'"),
        ("clip-l:grid=x", "1 to 512, not 'x'"),
        ("clip-l:grid", "write options as :key=value, not 'grid'"),
        ("clip-l:grid=3:grid=3", "grid is given twice"),
        ("clip-l:stages=all", "no option 'stages'; the options are grid, layer"),
        ("clip-l:layer=-26", r"-1 \(the last\) to -25"),
        ("convnext-l:stages=first", "stages must be one of all, last"),
    ],
)
def test_names_that_are_none_say_what_is_wrong(name, told):
    with pytest.raises(UserError, match=told):
        tower_spec(name)


def test_the_grid_can_be_given_beside_the_name():
    assert tower_spec("clip-l", grid=12).name == "clip-l@336:grid=12"
    assert tower_spec("clip-l:grid=6", grid=24).name == "clip-l@336"


def test_published_names_go_there_and_back():
    for published, ours in PUBLISHED_TOWERS.items():
        spec = tower_spec(ours)
        assert from_published(published) == spec.name, published
        assert to_published(ours) == (published, spec.grid**2)
        assert from_published(*to_published(ours)) == spec.name


def test_the_released_models_list():
    names = ("siglip/CLIP-ViT-SO400M-14-384", "openai/clip-vit-large-patch14-336")
    names += ("facebook/dinov2-giant-res378", "clip-convnext-XXL-multi-stage")
    tokens = (576, 576, 576, 9216)
    found = [from_published(*pair) for pair in zip(names, tokens, strict=True)]
    assert tuple(found) == RELEASED_TOWERS
    assert [to_published(name) for name in RELEASED_TOWERS] == list(zip(names, tokens, strict=True))


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("facebook/dinov2-large-res336-interp144", "dinov2-large@336:grid=12"),
        ("clip-convnext-L-multi-stage-res768-interp9216", "convnext-l@768"),
        ("clip-convnext-XXL-res512", "convnext-xxl@512:stages=last"),
        ("timm/ViT-SO400M-14-SigLIP", "siglip-so400m@224"),
        ("sam_vit_b-interp576", "sam-b:grid=24"),
    ],
)
def test_sizes_and_tokens_in_published_names(published, ours):
    assert from_published(published) == ours
    assert from_published(*to_published(ours)) == ours


def test_the_published_layer_is_heeded_by_clip_alone():
    assert from_published("openai/clip-vit-base-patch32", 576, -1) == "clip-b32:layer=-1"
    assert from_published("siglip/CLIP-ViT-SO400M-14-384", 576, -1) == "siglip-so400m@384"
    assert to_published("clip-b32:layer=-1") == ("openai/clip-vit-base-patch32", 576)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("eva/CLIP-ViT-L-336", "never worked in a model: .*; those that work are siglip/"),
        ("diffusion", "never worked in a model: .* noise"),
        ("hybridmodel-a-&&&-b", "name them one by one"),
        ("facebook/dino-giant", "did you mean facebook/dinov2-giant"),
        ("openai/clip-vit-large-patch14-res336", "this one has 224 px"),
        ("clip-convnext-XXL-interp575", "575 tokens are no square"),
        ("facebook/dinov2-giant-res377", "multiple of 14"),
    ],
)
def test_published_names_that_cannot_be_used(name, told):
    with pytest.raises(UserError, match=told):
        from_published(name)


def test_towers_without_a_published_name_say_so():
    for name in ("tiny-clip", "siglip-so400m:act=gelu_tanh"):
        with pytest.raises(UserError, match="has no published name"):
            to_published(name)


# ------------------------------------------------------------------------------- real sizes

MILLIONS = {"clip-l": 303.5, "dinov2-giant": 1136.5, "convnext-xxl": 843.4}


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_real_towers_have_the_size_that_is_known(name, millions):
    assert round(num_parameters(name) / 1e6, 1) == millions


def test_siglip_has_eleven_tensors_less_than_with_its_pooling_head():
    with torch.device("meta"):
        bare = tower_spec("siglip-so400m").build()
        config = bare.vision_tower.config.to_dict() | {"vision_use_head": True}
        whole = SiglipTower(config)
    assert round(sum(p.numel() for p in whole.parameters()) / 1e6, 1) == 428.2
    ours, theirs = bare.state_dict(), whole.state_dict()
    assert len(theirs) - len(ours) == 11
    assert all(name.startswith("vision_tower.head.") for name in theirs.keys() - ours.keys())


@pytest.mark.parametrize("name", [*FAMILIES, "convnext-l:stages=last", "dinov2-small@224:grid=7"])
def test_real_towers_give_the_promised_shape(name):
    with torch.device("meta"):
        tower = Tower(name)
        spec = tower.spec
        found = tower(torch.empty(1, 3, spec.px, spec.px))
    assert found.shape == (1, spec.grid**2, spec.width)


def test_grids_of_the_released_towers_before_they_are_resized():
    with torch.device("meta"):
        for name, tokens in zip(RELEASED_TOWERS[:3], (27**2, 24**2, 27**2), strict=True):
            spec = tower_spec(name)
            assert spec.build()(torch.empty(1, 3, spec.px, spec.px)).shape[1] == tokens


def test_colours_are_those_of_the_released_wrappers():
    colours = {name: pad_colour(tower_spec(name).pad_mean) for name in RELEASED_TOWERS}
    assert set(colours.values()) == {(122, 116, 104), (123, 116, 103)}
    assert colours["dinov2-giant@378"] == (123, 116, 103)
    assert tower_spec("siglip-so400m").mean == (0.5, 0.5, 0.5)


# ------------------------------------------------------------------------- features taken

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
VIT = SMALL | {"intermediate_size": 40}


def _varied(body):
    """Give a body weights under which every norm and layer shows."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in body.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise + 1 if parameter.ndim == 1 else noise)
    return body.eval()


def _pixels(px, count=2):
    return torch.randn(count, 3, px, px, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_clip_takes_a_hidden_state_without_the_class_token():
    for layer in (-1, -2, -4):
        body = _varied(ClipTower(VIT | {"image_size": 336, "patch_size": 14}, layer))
        found = body(_pixels(336))
        states = body.vision_tower(_pixels(336), output_hidden_states=True).hidden_states
        torch.testing.assert_close(found, states[layer][:, 1:])
        assert found.shape == (2, 576, 32)


@torch.no_grad()
def test_siglip_takes_all_tokens_after_the_final_norm():
    body = _varied(SiglipTower(VIT | {"image_size": 384, "patch_size": 14}))
    found = body(_pixels(384))
    torch.testing.assert_close(found, body.vision_tower(_pixels(384)).last_hidden_state)
    assert found.shape == (2, 27 * 27, 32)


@torch.no_grad()
def test_dinov2_takes_the_tokens_after_the_final_norm():
    config = SMALL | {"image_size": 518, "patch_size": 14, "use_swiglu_ffn": True}
    body = _varied(Dinov2Tower(config))
    own = body.vision_tower(_pixels(518, 1)).last_hidden_state[:, 1:]
    torch.testing.assert_close(body(_pixels(518, 1)), own)
    found = body(_pixels(378, 1))
    assert found.shape == (1, 27 * 27, 32)
    # What transformers does now is near, and not the same.
    newer = body.vision_tower(_pixels(378, 1)).last_hidden_state[:, 1:]
    assert 1e-3 < (found - newer).abs().max() < 1.0


@torch.no_grad()
def test_dinov2_resizes_its_positions_as_it_was_published():
    body = _varied(Dinov2Tower(SMALL | {"image_size": 518, "patch_size": 14}))
    embeddings = body.vision_tower.embeddings
    own = embeddings.position_embeddings[:, 1:].view(1, 37, 37, 32).permute(0, 3, 1, 2)
    for side in (16, 27, 24, 36, 38, 64):
        scale = (side + 0.1) / 37
        expected = F.interpolate(own, scale_factor=scale, mode="bicubic").flatten(2)
        found = body._positions(side)
        assert found.shape == (1, 1 + side * side, 32)
        torch.testing.assert_close(found[:, 1:], expected.transpose(1, 2))
    assert body._positions(37) is embeddings.position_embeddings


@torch.no_grad()
def test_convnext_takes_its_stages():
    config = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}
    body = _varied(ConvNextTower(config, 6, norm_eps=1e-5))
    states = body.vision_tower(_pixels(256), output_hidden_states=True).hidden_states[1:]
    assert [state.shape[-1] for state in states] == [64, 32, 16, 8]
    maps = [F.interpolate(state, (6, 6), mode="bilinear") for state in states]
    expected = torch.cat(maps, dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(body(_pixels(256)), expected)
    last = ConvNextTower(config, 8, stages="last", norm_eps=1e-5)
    last.load_state_dict(body.state_dict())
    torch.testing.assert_close(last(_pixels(256)), states[-1].flatten(2).transpose(1, 2))


def test_convnext_has_the_epsilon_it_is_given():
    for name, eps in (("convnext-l", 1e-6), ("convnext-xxl", 1e-5)):
        with torch.device("meta"):
            body = tower_spec(name).build()
        norms = [m for m in body.modules() if isinstance(m, torch.nn.LayerNorm)]
        assert len(norms) > 30
        assert {norm.eps for norm in norms} == {eps}


@torch.no_grad()
def test_sam_takes_the_blocks_before_the_neck():
    config = SMALL | {"mlp_dim": 48, "image_size": 128, "window_size": 3}
    body = _varied(SamTower(config | {"global_attn_indexes": [2]}))
    encoder = body.vision_tower.vision_encoder
    # The neck is left out, so that what the model returns is what would enter it.
    expected = encoder(_pixels(128)).last_hidden_state.flatten(1, 2)
    torch.testing.assert_close(body(_pixels(128)), expected)
    assert expected.shape == (2, 64, 32)


def test_layers_of_sam_that_see_the_whole_picture():
    expected = {"sam-b": [2, 5, 8, 11], "sam-l": [5, 11, 17, 23], "sam-h": [7, 15, 23, 31]}
    for name, layers in expected.items():
        with torch.device("meta"):
            body = tower_spec(name).build()
        blocks = body.vision_tower.vision_encoder.layers
        assert [i for i, block in enumerate(blocks) if block.window_size == 0] == layers


def test_siglip_has_the_exact_gelu_unless_asked():
    with torch.device("meta"):
        exact = tower_spec("siglip-so400m").build().vision_tower.config.hidden_act
        tanh = tower_spec("siglip-so400m:act=gelu_tanh").build().vision_tower.config.hidden_act
    assert (exact, tanh) == ("gelu", "gelu_pytorch_tanh")


# --------------------------------------------------------------------------------- at work


def test_a_tower_brings_its_map_to_the_grid_that_is_asked_for():
    torch.manual_seed(0)
    wide, own = Tower("tiny-clip:grid=6"), Tower("tiny-clip")
    wide.load_state_dict(own.state_dict())
    map_BDGG = own(_pixels(96)).transpose(1, 2).unflatten(2, (4, 4))
    expected = F.interpolate(map_BDGG, (6, 6), mode="bilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(wide(_pixels(96)), expected)


def test_raw_pixels_are_normalised_as_on_the_cpu():
    raw = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    for name in ("clip-l", "dinov2-small", "tiny-clip"):
        spec = tower_spec(name)
        expected = np.stack([normalise(image, spec.mean, spec.std) for image in raw.numpy()])
        found = normalise_pixels(raw, spec.mean, spec.std)
        assert torch.equal(found, torch.from_numpy(expected))


def test_a_tower_takes_raw_pixels_too():
    tower = Tower("tiny-convnext")
    raw = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    ready = normalise_pixels(raw, tower.spec.mean, tower.spec.std)
    assert torch.equal(tower(raw), tower(ready))


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match="tiny-clip takes pictures of 3 x 96 x 96"):
        Tower("tiny-clip")(torch.zeros(1, 3, 95, 96))


def test_frozen_towers_stay_in_evaluation_and_build_no_graph():
    towers = build_towers(["tiny-clip", "tiny-convnext"])
    freeze_towers(towers, ["tiny-convnext"], dtype=torch.bfloat16)
    towers.train()
    frozen, learning = towers
    assert (frozen.training, learning.training) == (False, True)
    assert (frozen.dtype, learning.dtype) == (torch.bfloat16, torch.float32)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen(_pixels(96)).requires_grad
    assert frozen(_pixels(96)).dtype == torch.bfloat16
    learning(_pixels(96)).sum().backward()
    assert all(p.grad is not None for p in learning.parameters())
    freeze_towers(towers)
    assert not any(p.requires_grad for p in towers.parameters())
    assert towers.training
    assert not learning.training


def test_a_tower_that_learns_again_has_float32():
    towers = build_towers(["tiny-clip"])
    freeze_towers(towers, dtype=torch.bfloat16)
    freeze_towers(towers, ["tiny-clip@96:grid=4"])
    assert (towers[0].dtype, towers[0].frozen) == (torch.float32, False)


def test_a_tower_to_unfreeze_that_is_not_there():
    with pytest.raises(UserError, match="cannot unfreeze 'clip-l': the model's towers are tiny-"):
        freeze_towers(build_towers(["tiny-clip"]), ["clip-l"])


def test_a_frozen_tower_in_bfloat16_is_near():
    torch.manual_seed(0)
    tower = Tower("tiny-convnext")
    exact = tower(_pixels(96))
    tower.set_frozen(True, torch.bfloat16)
    near = tower(_pixels(96)).float()
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-convnext"])
def test_checkpointing_gives_the_same_gradients(name):
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    tower = Tower(name)
    tower.set_frozen(False)
    calls, gradients = [], []

    def counted(layer, *inputs):
        calls.append(layer)
        return checkpoint(layer, *inputs, use_reentrant=False)

    for function in (None, counted):
        tower.use_checkpointing(function)
        tower.zero_grad()
        tower(_pixels(96)).square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters() if p.grad is not None])
    assert calls
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    tower.set_frozen(True)
    calls.clear()
    tower.use_checkpointing(partial(counted))
    tower(_pixels(96))
    assert not calls, "a frozen tower has nothing to save"


def test_features_that_are_given_are_used_and_the_rest_is_made():
    towers = build_towers(["tiny-clip", "tiny-convnext"])
    pixels = [_pixels(96), _pixels(96)]
    made = encode(towers, Pictures([(9, 9)] * 2, pixels=pixels))
    given = torch.ones(2, 16, 64)
    mixed = Pictures([(9, 9)] * 2, pixels=[None, pixels[1]], features=[given, None])
    found = encode(towers, mixed.to("cpu"))
    assert found[0] is given
    assert torch.equal(found[1], made[1])
    with pytest.raises(ValueError, match="neither pixels nor features for tiny-convnext"):
        encode(towers, Pictures([(9, 9)] * 2, features=[given, None]))


def test_a_batch_without_pictures_moves_too():
    pictures = Pictures([], features=[]).to("cpu")
    assert (pictures.sizes, pictures.pixels, pictures.features) == ([], None, [])


def test_specs_go_to_workers():
    for name in FAMILIES:
        spec = tower_spec(name)
        copy = pickle.loads(pickle.dumps(spec))
        assert (copy.name, copy.px, copy.pad_mean) == (spec.name, spec.px, spec.pad_mean)
        assert copy.build.func is spec.build.func


def test_every_real_tower_names_its_weights():
    for name in FAMILIES:
        weights = tower_spec(name).weights
        assert (weights is None) == name.startswith("tiny-"), name
        assert weights is None or weights.count("/") == 1

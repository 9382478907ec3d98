"""The same model around every family of language models: samplers inside, padding, cache, files."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from cambrian_data.records import UserError
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.layout import StaticShape, lay_out
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.vision import Pictures

PICTURE = IMAGE_TOKEN_INDEX
SHAPES = [[12, 4], [8, 8]]
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": 2,
    "initializer_range": 0.2,  # large enough that a wrong place shows
}
FAMILIES = {
    "llama": {"model_type": "llama"},
    "yi": {"model_type": "llama", "rope_theta": 5e6, "num_key_value_heads": 1},
    "vicuna": {"model_type": "llama", "num_key_value_heads": 4},
    "phi3": {"model_type": "phi3"},
    "mistral": {"model_type": "mistral", "sliding_window": 12},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "gemma": {"model_type": "gemma", "head_dim": 8, "tie_word_embeddings": True},
    "gemma2": {"model_type": "gemma2", "head_dim": 8, "sliding_window": 12},
}
PLACES = (1, 3)
"""Layers with a sampler behind them, as start 1, stride 2, count 2 says."""
ROWS = [
    [5, 6, 7, 8],
    [9, PICTURE, 10, 11],
    [PICTURE, 12, 13, PICTURE],
    [14, 15, 16, 17, 18, PICTURE],
]
SIZES = [(80, 80), (90, 45), (30, 60), (64, 20)]
COUNTS = [0, 1, 2, 1]


def make_model(family, **decoder):
    torch.manual_seed(3)
    connector = {"hidden_size": 16, "num_heads": 4, "num_layers": 1, "query_grids": [4]}
    config = CambrianConfig(
        tower_shapes=SHAPES,
        connector=connector | {"in_decoder": {"start": 1, "stride": 2, "count": 2}},
        decoder=COMMON | FAMILIES[family] | decoder,
    )
    return CambrianModel(config).eval()


@pytest.fixture(scope="module", autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return make_model(family)


def pictures_of(sizes, first=0):
    """Return features that depend on the number of the picture alone."""
    features = []
    for width, side in SHAPES:
        maps = []
        for number in range(first, first + len(sizes)):
            generator = torch.Generator().manual_seed(100 * width + number)
            maps.append(torch.randn(side * side, width, generator=generator))
        features.append(torch.stack(maps) if maps else torch.zeros(0, side * side, width))
    return Pictures(list(sizes), features=features)


def pictures_of_row(row):
    first = sum(COUNTS[:row])
    return pictures_of(SIZES[first : first + COUNTS[row]], first)


def padded(rows, side="right"):
    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        gap = width - len(row)
        ids.append(row + [2] * gap if side == "right" else [2] * gap + row)
        mask.append([1] * len(row) + [0] * gap if side == "right" else [0] * gap + [1] * len(row))
    return torch.tensor(ids), torch.tensor(mask)


def labels_of(ids, mask):
    return ids.masked_fill((mask == 0) | (ids == PICTURE), IGNORE_INDEX)


def trained_logits(model, rows, pictures, padding):
    """Return for each row the logits from which its labels are predicted."""
    ids, mask = padded(rows)
    layout = model.lay_out(ids, mask, labels_of(ids, mask), pictures.sizes, padding)
    logits = model(layout=layout, pictures=pictures).logits
    columns = layout.label_columns.tolist()
    return [
        logits[row, [columns.index(c) for c in columns if layout.labels[row, c + 1] >= 0]]
        for row in range(len(rows))
    ]


def zero_samplers(model, but=None):
    """Take the output of the samplers away, but of the one of a number."""
    for number, sampler in enumerate(model.connector.vision_sampler_layers):
        if number != but:
            for layer in sampler.layers:
                torch.nn.init.zeros_(layer.proj_out.linear_2.weight)


def layer_outputs(model, ids, mask, pictures):
    """Return what each layer hands on, the samplers' updates included."""
    seen, handles = [], []

    def keep(layer, inputs, output):
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    handles = [layer.register_forward_hook(keep) for layer in model.decoder_layers]
    try:
        model(ids, mask, pictures=pictures)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize("number", range(len(PLACES)))
@torch.no_grad()
def test_a_sampler_changes_the_visual_tokens_after_its_layer_and_nothing_else(family, number):
    """Before it nothing differs from a model without, at its layer the visual tokens alone."""
    model, silent = make_model(family), make_model(family)
    zero_samplers(model, but=number)
    zero_samplers(silent)
    ids, mask = padded(ROWS)
    pictures = pictures_of(SIZES)
    layout = model.lay_out(ids, mask, None, SIZES)
    is_visual = torch.zeros(layout.input_ids.numel(), dtype=torch.bool)
    is_visual[layout.cell_place] = True
    found = layer_outputs(model, ids, mask, pictures)
    without = layer_outputs(silent, ids, mask, pictures)
    for layer in range(PLACES[number]):
        assert torch.equal(found[layer], without[layer])
    changed = (found[PLACES[number]] != without[PLACES[number]]).any(dim=-1)
    assert torch.equal(changed.flatten(), is_visual)


@torch.no_grad()
def test_without_their_output_the_samplers_do_nothing(family):
    """The logits are those of the language model alone on the same embeddings."""
    model = make_model(family)
    zero_samplers(model)
    ids, mask = padded(ROWS)
    pictures = pictures_of(SIZES)
    found = model(ids, mask, pictures=pictures).logits
    layout = model.lay_out(ids, mask, None, SIZES)
    alone = model.decoder(
        inputs_embeds=model.embed(layout, model.see(pictures)),
        attention_mask=layout.attention_mask,
        position_ids=layout.position_ids,
        use_cache=False,
    ).logits
    kept = layout.attention_mask
    assert_close(found[kept], alone[kept], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_text_alone_is_what_the_language_model_makes_of_the_ids(model):
    """Also where a family scales its embeddings."""
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    assert_close(model(ids).logits, model.decoder(ids).logits, atol=1e-6, rtol=1e-5)


def test_the_loss_reaches_every_part(family):
    model = make_model(family).train()
    ids, mask = padded(ROWS)
    model(ids, mask, labels_of(ids, mask), pictures_of(SIZES)).loss.backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    # A softmax over keys does not change with what is added to all of them: k biases may be dead.
    assert [name for name in dead if not name.endswith("bias")] == []


@pytest.mark.parametrize("padding", ["right", "left"])
@torch.no_grad()
def test_rows_of_a_batch_equal_the_rows_alone(model, padding):
    """None, one and several pictures, at the front, in the middle and at the end."""
    together = trained_logits(model, ROWS, pictures_of(SIZES), padding)
    for number, row in enumerate(ROWS):
        (alone,) = trained_logits(model, [row], pictures_of_row(number), padding)
        assert len(alone)
        assert_close(together[number], alone, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def greedy_steps(model, row, pictures, count):
    """Return the tokens that the forward pass without a cache would choose, one by one."""
    ids = list(row)
    for _ in range(count):
        logits = model(torch.tensor([ids]), pictures=pictures).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[len(row) :]


@pytest.mark.parametrize("static", [None, StaticShape(num_tokens=140, pictures_per_row=4)])
@torch.no_grad()
def test_samples_of_a_packed_row_do_not_see_each_other(model, static):
    samples = [Encoded(row, labels_of(torch.tensor(row), torch.ones(1)).tolist()) for row in ROWS]
    layout = lay_out(
        [samples[:2], samples[2:]], SIZES, model.connector.side, pad_token_id=2, static=static
    )
    shown = pictures_of(SIZES)
    slots = torch.tensor(layout.picture_order).clamp(min=0)  # any picture stands in
    pictures = Pictures(
        [SIZES[slot] for slot in slots], features=[feats[slots] for feats in shown.features]
    )
    logits = model(layout=layout, pictures=pictures, logits_to_keep=0).logits
    for number in range(len(ROWS)):
        row, place = divmod(number, 2)
        seen = (layout.segments[row] == place + 1) & layout.attention_mask[row]
        alone = model(torch.tensor([ROWS[number]]), pictures=pictures_of_row(number)).logits[0]
        assert_close(logits[row][seen], alone, atol=2e-5, rtol=1e-4)


def test_generation_with_a_cache_equals_step_by_step(model):
    for number in (0, 2):
        pictures = pictures_of_row(number)
        found = model.generate(
            torch.tensor([ROWS[number]]), pictures=pictures, max_new_tokens=6, do_sample=False
        )
        assert found.tolist()[0] == greedy_steps(model, ROWS[number], pictures, 6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_a_batch_are_answered_as_alone(model, side):
    ids, mask = padded(ROWS, side)
    options = {"max_new_tokens": 5, "do_sample": False}
    together = model.generate(ids, mask, pictures_of(SIZES), **options)
    assert together.shape == (len(ROWS), 5)
    for number, row in enumerate(ROWS):
        pictures = pictures_of_row(number)
        alone = model.generate(torch.tensor([row]), pictures=pictures, **options)
        assert together[number].tolist() == alone[0].tolist()


def test_beam_search_equals_the_one_without_a_cache(model):
    ids, mask = padded(ROWS[1:3])
    pictures = pictures_of(SIZES[:3])
    options = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2}
    found = model.generate(ids, mask, pictures, **options)
    without = model.generate(ids, mask, pictures, use_cache=False, **options)
    assert found.tolist() == without.tolist()
    for number in (1, 2):
        row, shown = torch.tensor([ROWS[number]]), pictures_of_row(number)
        alone = model.generate(row, pictures=shown, **options)
        assert found[number - 1].tolist() == alone[0].tolist()


def test_checkpointed_layers_give_the_same_gradients(family):
    ids, mask = padded(ROWS)
    gradients = []
    for checkpointed in (False, True):
        model = make_model(family).train()
        if checkpointed:
            model.use_checkpointing(partial(checkpoint, use_reentrant=False))
        model(ids, mask, labels_of(ids, mask), pictures_of(SIZES)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    plain, again = gradients
    for name, gradient in plain.items():
        assert_close(again[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("tied", [False, True])
def test_saving_and_loading_keeps_every_byte(family, tied, tmp_path):
    model = make_model(family, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "one")
    loaded = CambrianModel.from_pretrained(tmp_path / "one")
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    head, embeddings = loaded.decoder.get_output_embeddings(), loaded.get_input_embeddings()
    assert (head.weight is embeddings.weight) is tied
    loaded.save_pretrained(tmp_path / "two")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    ids, mask = padded(ROWS)
    with torch.no_grad():
        found = loaded(ids, mask, pictures=pictures_of(SIZES)).logits
        expected = model(ids, mask, pictures=pictures_of(SIZES)).logits
    assert torch.equal(found, expected)


def test_a_sampler_behind_a_layer_that_is_not_there_is_told():
    with pytest.raises(UserError, match="after layer 3 and the language model has the layers 0 to"):
        make_model("llama", num_hidden_layers=2)

"""Kind C: a whole small language model with samplers inside, on training and inference paths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from cambrian_model.conversation import IMAGE_TOKEN_INDEX
from cambrian_model.files.names import own_name, published_name
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.vision import Pictures
from tests.cambrian_model.golden.cases import Case
from tests.cambrian_model.golden.kind_b import (
    check_train_batch,
    connector_recipe,
    sizes_of,
    tower_shapes,
)

_DECODER_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rope_theta",
    "rms_norm_eps",
    "hidden_act",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "sliding_window",
)


def build(case: Case, model_type: str = "llama") -> CambrianModel:
    """Build the model of a case and load its weights strictly."""
    config = case.config
    decoder = {key: config[key] for key in _DECODER_KEYS if key in config}
    model = CambrianModel(
        CambrianConfig(
            tower_shapes=tower_shapes(config),
            connector=connector_recipe(config).model_dump(mode="json"),
            decoder={"model_type": config.get("model_type", model_type), **decoder},
        )
    )
    state = {own_name(name): value for name, value in case.weights.items()}
    if config.get("tie_word_embeddings"):
        state.setdefault("decoder.lm_head.weight", state["decoder.model.embed_tokens.weight"])
    model.load_state_dict(state)
    model.decoder.generation_config.eos_token_id = None  # the stored answers do not stop
    return model.eval()


def _features(case: Case, prefix: str) -> list[Tensor]:
    count = len(tower_shapes(case.config))
    return [case.io[f"{prefix}features_{i}"] for i in range(count)]


def _close(found: Tensor, expected: Tensor, case: Case, kind: str, where: str) -> None:
    close = case.tolerance(kind)
    assert_close(found, expected, **close, msg=lambda text: f"{where}: {text}")


def _train(case: Case, model: CambrianModel) -> None:
    io, layout = case.io, check_train_batch(case)
    pictures = Pictures(sizes_of(io["input.image_sizes"]), features=_features(case, "input."))
    output = model(layout=layout, pictures=pictures, output_hidden_states=True)
    mask = layout.attention_mask
    expected = case.group("train.output.")
    _close(output.logits[mask], expected.pop("logits")[mask], case, "logits", "train logits")
    _close(output.loss.view(1), expected.pop("loss"), case, "loss", "train loss")
    for number, hidden in enumerate(output.hidden_states):
        value = expected.pop(f"hidden_states_{number}", None)
        if value is not None:
            _close(hidden[mask], value[mask], case, "logits", f"train hidden state {number}")
    assert not expected, f"{case.name}: no reader for train.output {sorted(expected)}"
    output.loss.backward()
    found = {published_name(name): p.grad for name, p in model.named_parameters()}
    gradients = case.group("grad.")
    assert gradients
    assert gradients.keys() <= found.keys(), gradients.keys() - found.keys()
    for name, value in gradients.items():
        _close(found[name], value, case, "grad", f"gradient of {name}")


@torch.no_grad()
def _infer(case: Case, model: CambrianModel, prefix: str) -> None:
    io = case.io
    ids = io[f"{prefix}.input_ids"]
    sizes = sizes_of(io[f"{prefix}.image_size"])
    pictures = Pictures(sizes, features=_features(case, f"{prefix}."))
    output = model(ids, pictures=pictures)
    _close(output.logits, io[f"{prefix}.logits"], case, "logits", f"{prefix} logits")
    embeds = io.get(f"{prefix}.inputs_embeds")
    if embeds is not None:
        layout = model.lay_out(ids, None, None, sizes)
        found = model.embed(layout, model.see(pictures))
        _close(found, embeds, case, "logits", f"{prefix} embeddings")
    expected = io[f"{prefix}.generated_ids"]
    answer = model.generate(
        ids,
        pictures=pictures,
        max_new_tokens=expected.shape[1],
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert torch.equal(answer.sequences, expected), f"{prefix} generated ids"
    logits = torch.stack(answer.logits, dim=1)
    _close(logits, io[f"{prefix}.generated_logits"], case, "logits", f"{prefix} generated logits")


@torch.no_grad()
def _infer_batch(case: Case, model: CambrianModel) -> None:
    io = case.io
    ids, kept = io["infer_batch.input_ids"], io["infer_batch.attention_mask"].bool()
    shown = ((ids == IMAGE_TOKEN_INDEX) & kept).any(dim=1)  # a prompt of text uses no picture
    pictures = Pictures(
        sizes_of(io["infer_batch.image_sizes"][shown]),
        features=[feats[shown] for feats in _features(case, "infer_batch.")],
    )
    mask = io["infer_batch.output.attention_mask"].bool()
    layout = model.lay_out(ids, kept, None, pictures.sizes)
    assert torch.equal(layout.attention_mask, mask), "infer_batch attention mask"
    logits = model(ids, kept, pictures=pictures).logits
    expected = io["infer_batch.output.logits"]
    _close(logits[mask], expected[mask], case, "logits", "infer_batch logits")


def check(case: Case) -> None:
    """Compare a case of a whole model."""
    model = build(case)
    side = model.connector.side
    if tuple(case.config["query_num_list"]) == (side * side,):
        _train(case, model)
    else:  # coarser groups: the published training path takes other masks (kind B)
        check_train_batch(case)
    prompts = sorted({name.split(".")[0] for name in case.io if name.startswith("infer_")})
    for prefix in prompts:
        if prefix != "infer_batch":
            _infer(case, model, prefix)
    if "infer_batch.input_ids" in case.io:
        _infer_batch(case, model)

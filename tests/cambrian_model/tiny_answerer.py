"""A tiny model with random weights that can be asked: for tests of asking, not of answers."""

from __future__ import annotations

import io

TEXTS = [
    "What does the figure show? A curve of speed against time, for two mirrors.",
    "Odd signs: caf\u00e9 na\u00efve \u4f60\u597d \U0001f600 \u03b2\u2248, for the answers.",
] * 3


def picture(colour, size=(40, 60)) -> bytes:
    """Return a picture of one colour as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def tiny_model(template: str = "llama_3", *, context: int = 600, spread: float = 0.5):
    """Return a model and its tokenizer.

    Args:
        spread: of the language model's first weights; large ones make it talkative.
    """
    import torch

    from cambrian_model.model import CambrianConfig, CambrianModel
    from cambrian_model.templates import TEMPLATES
    from cambrian_model.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXTS, 420, TEMPLATES[template])
    torch.manual_seed(1)
    config = CambrianConfig(
        towers=["tiny-clip", "tiny-convnext"],
        connector={
            "kind": "sva",
            "hidden_size": 32,
            "num_heads": 4,
            "num_layers": 1,
            "query_grids": [4],
        },
        decoder={
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": context,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": spread,
        },
        template=template,
        system="Be brief.",
    )
    return CambrianModel(config).eval(), tokenizer


def tiny_answerer(template: str = "llama_3", **options):
    """Return an `Answerer` of such a model."""
    from cambrian_model.generate import Answerer

    return Answerer(*tiny_model(template, **options))

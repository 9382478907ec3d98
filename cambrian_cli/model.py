"""Commands that ask a trained model."""

from __future__ import annotations

from pathlib import Path

from cambrian_cli import output
from cambrian_data.optional import require
from cambrian_data.records import UserError


def answer(
    model: Path,
    question: str,
    *,
    images: list[Path],
    max_new_tokens: int,
    temperature: float,
    runtime: str,
) -> None:
    """Load a checkpoint and print its answer."""
    require("torch", "transformers", "tokenizers", "safetensors", extra="train")
    for image in images:
        if not image.is_file():
            raise UserError(f"there is no picture {str(image)!r}")
    if not question.strip():
        raise UserError("the question is empty")
    from cambrian_data.engine.images import ImagesConfig, PictureError, decode_picture
    from cambrian_model.generate import load
    from cambrian_model.runtime import runtime_of

    pictures = []
    for image in images:  # as the engine stores them: upright, on white, SVG drawn
        try:
            config = ImagesConfig(min_side_px=1, max_aspect=200)
            pictures.append(decode_picture(image.read_bytes(), config).data)
        except PictureError as error:
            raise UserError(f"{image} cannot be used as a picture: {error}") from None
    text = load(model, runtime=runtime_of(runtime)).answer(
        question, pictures, max_new_tokens=max_new_tokens, temperature=temperature
    )
    if output.wants_json:
        output.emit_json({"question": question, "answer": text})
        return
    output.out.print(text, markup=False)

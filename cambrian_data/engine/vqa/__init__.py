"""Figures to questions and answers, and those to sample rows of `records.SAMPLE`.

A `Writer` gives the questions of a chunk of figures: `ExtractiveWriter` takes them off caption and
prose, `LlmWriter` asks a language model and checks what it says. `samples_of` makes the rows.
"""

from cambrian_data.engine.vqa.config import KINDS, LlmWriterConfig, VqaConfig
from cambrian_data.engine.vqa.llm_writer import LlmWriter
from cambrian_data.engine.vqa.prompts import PROMPT_VERSION
from cambrian_data.engine.vqa.samples import samples_of, source_of
from cambrian_data.engine.vqa.writers import (
    ExtractiveWriter,
    Writer,
    Written,
    figure_text,
    questions_of,
)
from cambrian_data.llm.extractive import EXTRACTIVE_VERSION

__all__ = [
    "EXTRACTIVE_VERSION",
    "KINDS",
    "PROMPT_VERSION",
    "ExtractiveWriter",
    "LlmWriter",
    "LlmWriterConfig",
    "VqaConfig",
    "Writer",
    "Written",
    "figure_text",
    "questions_of",
    "samples_of",
    "source_of",
]

"""Data for multimodal language models: engine, pool, curation, mixture and shards.

Nothing here imports torch, prefect or typer: stages are plain functions over Arrow tables and
folders, run by `flows/` and shown by `cli.py`.
"""

__version__ = "0.1.0"

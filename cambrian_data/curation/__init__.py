"""From published instruction sets and engine samples to a mixture that can be explained.

lines -> rows -> ingest make tables of JSON files; checks, dedup, mixture and system_prompts are
pure functions on an Arrow table of samples that say of every row they drop why; recipe puts their
configs together, assemble runs them in order.
"""

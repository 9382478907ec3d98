"""From published sets to a mixture: ingest, rules, overlaps, duplicates, plan, system prompts.

`assemble` is the order of things. `ingest` fills the pool; `rules`, `overlaps` and `duplicates` say
which rows go and why; `mixing` plans how many of which source stay.
"""

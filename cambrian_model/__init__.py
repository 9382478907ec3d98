"""A vision-language model with a Spatial Vision Aggregator (SVA), and its two-stage training.

`recipe` holds the typed configs and needs no torch; the other modules import it when they are
imported themselves, so that `import cambrian_model` stays cheap.
"""

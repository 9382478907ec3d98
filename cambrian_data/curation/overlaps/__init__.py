"""Samples that stand in a benchmark or in another set."""

"""Vision towers: names, modules, weights, kept features."""

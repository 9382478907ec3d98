"""From shards to the batches of a step: index, order, workers, pictures."""

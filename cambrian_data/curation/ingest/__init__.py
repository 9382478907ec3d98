"""Published instruction sets to the pool: any format, any shape, every row accounted for."""

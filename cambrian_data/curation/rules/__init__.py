"""Rules on single samples: what must hold, and what a recipe asks for."""

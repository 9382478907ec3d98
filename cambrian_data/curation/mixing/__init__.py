"""How many samples of every source make a mixture, and which."""

"""How a pass reads the functions that a network calls."""

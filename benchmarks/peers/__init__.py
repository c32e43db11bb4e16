"""The contestants, each a program of its own that needs nothing but NumPy and its framework."""

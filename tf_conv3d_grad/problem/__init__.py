"""What is to be computed, in plain integers wherever sizes are known."""

"""What is taken from TensorFlow, and what a call meets there."""

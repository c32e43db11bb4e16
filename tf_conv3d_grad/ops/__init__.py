"""The public ops, one file each, and the derivatives between the three functions."""

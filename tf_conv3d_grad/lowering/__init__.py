"""One file for each way of computing: a problem, a plan and tensors in, a tensor out."""

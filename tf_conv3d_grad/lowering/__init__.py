"""One file for each way of computing; each takes a problem, a plan and tensors, returns a tensor."""

"""How the occurrences of a repeated layer start: factors, the tensors that they scale, and measured warnings."""

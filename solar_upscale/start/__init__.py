"""How the occurrences of a repeated layer start: factors, the tensors they are put on, and what is known to hurt."""

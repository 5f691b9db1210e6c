"""What an output says of itself, and what commands print: rendered from values, never printed here."""

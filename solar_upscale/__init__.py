"""Change the depth of a Hugging Face checkpoint without loading the model."""

__version__ = "0.1.0"

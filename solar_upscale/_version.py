"""The version of the package, in a module of its own so that nothing imports the package's face."""

__all__ = ["__version__"]

__version__ = "0.2.0.dev0"

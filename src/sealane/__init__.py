"""Consumers, routing and channel layers for Django on ASGI."""

__all__ = ["__version__"]

__version__ = "0.1.0"

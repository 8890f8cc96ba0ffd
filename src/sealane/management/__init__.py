"""Sealane's management commands."""

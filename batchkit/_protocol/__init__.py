"""Bytes ↔ actions and results: no host, no event loop."""

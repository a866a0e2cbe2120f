"""Plugins for the tools of others, each in a module of its own that imports its tool; nothing of batchkit imports them."""

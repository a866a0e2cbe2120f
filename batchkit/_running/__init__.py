"""The work of a batch: its body read, its cost charged, its actions run."""

"""Mistakes of people who set batchkit up, said where they are made; off the path of a batch."""

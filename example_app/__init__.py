"""A small task manager in the shape of Asana's API, with a batch endpoint: ``python -m example_app --demo`` shows it."""

"""A sweep joined with a benchmark."""

"""From checked cases to a dataset folder."""

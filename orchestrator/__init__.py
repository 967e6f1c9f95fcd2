"""From a dataset and a search space to a live endpoint that keeps getting better."""

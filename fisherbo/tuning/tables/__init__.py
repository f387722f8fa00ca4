"""From a table as people have it to numbers, splits, scores and a model in one file."""

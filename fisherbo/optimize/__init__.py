"""From a function to a point: ascent and search, knowing no Gaussian process."""

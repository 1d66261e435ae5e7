"""Credits that people give to each other."""

"""What is fast, measured: `make bench` prints each figure beside what it may be at most, as ratios where a ratio says more."""

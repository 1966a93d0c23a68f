"""Statistics of comparisons: means with intervals, paired tests, ratings, agreement, power."""

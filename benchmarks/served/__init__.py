"""Apps that `panel serve` shows to the benchmark: ours, and the peer with the same answers."""

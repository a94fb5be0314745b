"""Compare methods fairly: tuned with the same number of trials, then run with paired seeds."""

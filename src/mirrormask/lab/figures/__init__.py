"""The figures of the theory page, one a file."""

"""Measurements behind the claims: each function returns one number, set against an oracle."""

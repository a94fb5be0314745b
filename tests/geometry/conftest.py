"""The same examples in every run, and a seeded generator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "geometry",
    derandomize=True,
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("geometry")


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(20260)

"""Moments and normalisation agree with numpy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from mirrormask.study.normalise import channel_moments, normalise


@settings(derandomize=True, deadline=None)
@given(images=arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_channel_moments_are_numpy_s(images):
    mean, std = channel_moments(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12)
    expected = images.astype(np.float64).std(axis=(0, 2, 3))
    # A constant channel has deviation 0 (up to numpy's rounding) and is left alone.
    expected[[len(np.unique(images[:, c])) == 1 for c in range(images.shape[1])]] = 1
    np.testing.assert_allclose(std, expected, rtol=1e-9)


@settings(derandomize=True, deadline=None)
@given(images=arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_normalised_images_have_moments_zero_and_one(images):
    mean, std = channel_moments(images)
    done = normalise(images, mean, std).double().numpy()
    np.testing.assert_allclose(done.mean(axis=(0, 2, 3)), 0.0, atol=1e-5)
    varied = [len(np.unique(images[:, c])) > 1 for c in range(images.shape[1])]
    np.testing.assert_allclose(done.std(axis=(0, 2, 3))[varied], 1.0, rtol=1e-5)

import math

from main import estimate_pi


def test_the_estimate_is_close():
    assert math.isclose(estimate_pi(points=100_000, seed=42), math.pi, abs_tol=0.02)


def test_the_same_seed_gives_the_same_result():
    assert estimate_pi(points=1000, seed=7) == estimate_pi(points=1000, seed=7)

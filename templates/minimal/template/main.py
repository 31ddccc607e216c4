"""Estimate pi from random points and log the estimate. Put your own work in place of it."""

import argparse
import math
import random

import mlflow


def estimate_pi(points: int, seed: int) -> float:
    """Return four times the share of random points in the unit square that lie in the quarter circle."""
    draw = random.Random(seed).random
    hits = sum(draw() ** 2 + draw() ** 2 <= 1 for _ in range(points))
    return 4 * hits / points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000, help="how many points are drawn")
    parser.add_argument("--seed", type=int, default=42, help="start of the random numbers")
    given = parser.parse_args()

    with mlflow.start_run() as run:
        if not run.data.params:  # whoever started the run for us has logged them already
            mlflow.log_params(vars(given))
        estimate = estimate_pi(given.points, given.seed)
        mlflow.log_metrics({"pi": estimate, "error": abs(estimate - math.pi)})
    print(f"pi is about {estimate:.5f}")


if __name__ == "__main__":
    main()

"""The forest and the data that both scripts train it on."""

import argparse

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split

SEED = 42


def read_arguments(description: str | None) -> dict[str, int]:
    """Return the forest's parameters from the command line, by name."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n-estimators", type=int, default=100, help="number of trees")
    parser.add_argument("--max-depth", type=int, default=6, help="most splits from the root to a leaf")
    parser.add_argument("--max-features", type=int, default=3, help="features to choose from at each split")
    return vars(parser.parse_args())


def load_split() -> list[np.ndarray]:
    """Return features and targets: train features, test features, train target, test target."""
    features, target = load_diabetes(return_X_y=True)
    return train_test_split(features, target, test_size=0.25, random_state=SEED)


def make_forest(parameters: dict[str, int]) -> RandomForestRegressor:
    """Return a forest that is yet to be trained; equal parameters give equal forests."""
    return RandomForestRegressor(**parameters, random_state=SEED)

"""Fit an elastic net to scikit-learn's diabetes data and log what came of it."""

import argparse
from importlib.metadata import version

import mlflow
import mlflow.sklearn
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 42
MODEL_NEEDS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]


def evaluate(actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the errors of a prediction by name."""
    return {
        "rmse": mean_squared_error(actual, predicted) ** 0.5,
        "mae": mean_absolute_error(actual, predicted),
        "r2": r2_score(actual, predicted),
    }


def plot_residuals(actual: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw what the model missed against what it said."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(predicted, actual - predicted, s=16, alpha=0.7)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xlabel="predicted", ylabel="actual - predicted", title="Residuals on the test set")
    return figure


def train(alpha: float, l1_ratio: float) -> dict[str, float]:
    """Fit, evaluate and log within the active run; return the metrics."""
    features, target = load_diabetes(return_X_y=True)
    split = train_test_split(features, target, test_size=0.25, random_state=SEED)
    train_features, test_features, train_target, test_target = split

    net = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, random_state=SEED)
    model = make_pipeline(StandardScaler(), net).fit(train_features, train_target)
    predicted = model.predict(test_features)
    metrics = evaluate(test_target, predicted)

    mlflow.log_metrics(metrics)
    mlflow.log_figure(plot_residuals(test_target, predicted), "residuals.png")
    mlflow.sklearn.log_model(model, name="model", pip_requirements=MODEL_NEEDS)
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, default=0.5, help="strength of the penalty")
    parser.add_argument("--l1-ratio", type=float, default=0.1, help="share of the L1 penalty, from 0 to 1")
    given = parser.parse_args()
    with mlflow.start_run() as run:
        if not run.data.params:  # whoever started the run for us has logged them already
            mlflow.log_params(vars(given))
        metrics = train(given.alpha, given.l1_ratio)
    for name, value in metrics.items():
        print(f"{name} = {value:.4f}")


if __name__ == "__main__":
    main()

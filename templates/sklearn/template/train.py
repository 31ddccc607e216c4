"""Train a classifier and log what came of it."""

import argparse
from importlib.metadata import version

import mlflow
import mlflow.sklearn
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 42
MODEL_NEEDS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]


def load_data() -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes. Put your own data here."""
    return load_breast_cancer(return_X_y=True)


def fit(features: np.ndarray, classes: np.ndarray, c: float) -> Pipeline:
    """Return a trained classifier; a smaller ``c`` makes it simpler."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(features, classes)


def score(model: Pipeline, features: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return the scores of a trained classifier by name."""
    return {
        "accuracy": accuracy_score(classes, model.predict(features)),
        "log_loss": log_loss(classes, model.predict_proba(features)),
    }


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", type=float, default=1.0, help="inverse strength of the penalty")
    parser.add_argument("--test-share", type=float, default=0.25, help="share of the data kept back for the score")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    features, classes = load_data()
    train_features, test_features, train_classes, test_classes = train_test_split(
        features, classes, test_size=arguments.test_share, random_state=SEED, stratify=classes
    )

    with mlflow.start_run() as run:
        if not run.data.params:  # whoever started the run for us has logged them already
            mlflow.log_params(vars(arguments))

        model = fit(train_features, train_classes, arguments.c)
        scores = score(model, test_features, test_classes)

        mlflow.log_metrics(scores)
        mlflow.sklearn.log_model(model, name="model", pip_requirements=MODEL_NEEDS)

    for name, value in scores.items():
        print(f"{name} = {value:.4f}")


if __name__ == "__main__":
    main()

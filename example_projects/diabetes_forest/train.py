"""Train a random forest and log parameters, error and model by hand."""

from importlib.metadata import version

import mlflow
import mlflow.sklearn
from forest import load_split, make_forest, read_arguments
from sklearn.metrics import mean_squared_error


def main() -> None:
    parameters = read_arguments(__doc__)
    train_features, test_features, train_target, test_target = load_split()

    with mlflow.start_run() as run:
        if not run.data.params:  # whoever started the run for us has logged them already
            mlflow.log_params(parameters)

        forest = make_forest(parameters).fit(train_features, train_target)
        mse = mean_squared_error(test_target, forest.predict(test_features))

        mlflow.log_metric("mse", mse)
        mlflow.sklearn.log_model(
            forest,
            name="model",
            serialization_format="cloudpickle",  # skops, the default, asks to vouch for the type of each tree
            pip_requirements=[f"scikit-learn=={version('scikit-learn')}"],
        )
    print(f"mse = {mse:.2f}")


if __name__ == "__main__":
    main()

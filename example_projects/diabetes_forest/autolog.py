"""Train the same forest; MLflow logs parameters, training metrics and the model by itself."""

import mlflow
import mlflow.sklearn
from forest import load_split, make_forest, read_arguments
from sklearn.metrics import mean_squared_error


def main() -> None:
    parameters = read_arguments(__doc__)
    train_features, test_features, train_target, test_target = load_split()

    mlflow.sklearn.autolog()
    with mlflow.start_run():
        forest = make_forest(parameters).fit(train_features, train_target)
        mse = mean_squared_error(test_target, forest.predict(test_features))
        mlflow.log_metric("mse", mse)  # under the name that train.py gives it, so that runs compare
    print(f"mse = {mse:.2f}")


if __name__ == "__main__":
    main()

"""The protocol of MLflow, spoken to the child of a run."""

"""Taking over what an MLflow store holds: a ``mlruns`` folder, or an SQLite database of any version."""

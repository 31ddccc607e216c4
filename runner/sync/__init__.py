"""A tracking server elsewhere, over MLflow's REST protocol."""

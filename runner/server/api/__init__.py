"""The endpoints of MLflow's REST protocol."""

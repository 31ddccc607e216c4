"""Copies runs to and from tracking servers over MLflow's REST protocol."""

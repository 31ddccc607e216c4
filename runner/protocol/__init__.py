"""The requests and responses of MLflow's REST protocol, shared by server and client."""

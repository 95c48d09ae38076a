"""Tasks: what a model's outputs are for, how they are read, and how two models' readings are compared."""

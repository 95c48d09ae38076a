"""Makes `measure_models` importable from the folders below, also where only one of their files runs."""

"""Execution of trials: in this process, in separate processes, on a cluster."""

"""Where trials run: here, in processes of their own, on a cluster."""

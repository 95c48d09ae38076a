"""Forms in which a finished model is deployed: settings of its session, and the file that is loaded."""

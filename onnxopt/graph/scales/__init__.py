"""Scalings, shifts and hard sigmoids beside layers, in the form that costs least."""

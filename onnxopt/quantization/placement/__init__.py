"""Placement of layers in INT8 or float."""

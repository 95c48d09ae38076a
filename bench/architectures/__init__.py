"""Small networks of the well-known families with random weights: their shape is what matters to structured pruning."""

from architectures.families import EXPORTERS, FAMILIES, Family, export

__all__ = ["EXPORTERS", "FAMILIES", "Family", "export"]

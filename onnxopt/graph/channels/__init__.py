"""Channel groups: labels that are followed through the graph, and the cut derived from them."""

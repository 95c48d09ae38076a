"""Channel groups: labels that run through the graph, and the cut that follows from them."""

"""Reading and editing the graph: layers, shapes, cost, structure."""

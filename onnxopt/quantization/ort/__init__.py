"""The runtime's quantizers on an indexed model: their work grows with the size of the graph, not with its square.

They look each tensor up by going through all initializers. Here the model gives them only those of the current node
or tensor, and the channels of a weight are computed at once. Methods that a later runtime no longer calls change
nothing.
"""

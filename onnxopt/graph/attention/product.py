"""Products of two values, MatMul or Einsum, as (batch, row, inner) times (batch, inner, column)."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxopt.graph.cost import Shape

Letters = tuple[str, ...]
"""One per axis of a value."""


@dataclass(frozen=True)
class Product:
    """A product of two values whose result may be laid out in any order.

    Attributes:
        slots: indices of the left and the right input of the node.
        left: letters of the left input: those of `batch`, of the row and of the inner axis.
        right: letters of the right input: those of `batch`, of the inner axis and of the column.
        out: letters of the result.
    """

    node: ir.Node
    slots: tuple[int, int]
    left: Letters
    right: Letters
    out: Letters
    batch: Letters
    row: str
    inner: str
    column: str

    def swapped(self) -> "Product":
        """Return the same product as one of the transposed inputs, with rows and columns swapped."""
        slots = (self.slots[1], self.slots[0])
        return replace(self, slots=slots, left=self.right, right=self.left, row=self.column, column=self.row)

    def laid_left(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the left input's shape as (*batch, row, inner)."""
        return _laid(array, self.left, (*self.batch, self.row, self.inner))

    def laid_right(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the right input's shape as (*batch, inner, column)."""
        return _laid(array, self.right, (*self.batch, self.inner, self.column))

    def sizes(self, left: Shape, right: Shape) -> tuple[Shape, int, int]:
        """Return the shape of the batch, the rows and the columns, given the shapes of the two inputs."""
        one, other = dict(zip(self.left, left, strict=True)), dict(zip(self.right, right, strict=True))
        batch = tuple(max(one.get(letter, 1), other.get(letter, 1)) for letter in self.batch)
        return batch, one[self.row], other[self.column]

    def numbered(self, batch: Shape, rows: int, columns: int) -> np.ndarray:
        """Return the positions of (*batch, row, column) in the layout of the result."""
        size = int(np.prod(batch)) * rows * columns
        positions = np.arange(size).reshape(*batch, rows, columns)
        order = (*self.batch, self.row, self.column)
        return positions.transpose([order.index(letter) for letter in self.out])


def product_of(node: ir.Node, ranks: tuple[int, ...]) -> Product | None:
    """Return the product that a node of two inputs computes; None when it computes none.

    Args:
        node: any node with two inputs.
        ranks: ranks of its inputs.
    """
    if node.domain or len(ranks) != 2 or any(v is None for v in node.inputs):
        return None
    if node.op_type == "MatMul" and min(ranks) >= 2:
        batch = tuple(f"b{i}" for i in range(max(ranks) - 2, 0, -1))
        left, right = (batch[len(batch) - (rank - 2) :] for rank in ranks)
        return Product(node, (0, 1), (*left, "m", "k"), (*right, "k", "n"), (*batch, "m", "n"), batch, "m", "k", "n")
    return _einsum(node, ranks) if node.op_type == "Einsum" else None


def _einsum(node: ir.Node, ranks: tuple[int, ...]) -> Product | None:
    inputs, arrow, result = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow or len(terms) != 2:
        return None
    hidden = max(rank - len(term.replace("...", "")) for rank, term in zip(ranks, terms, strict=True))
    counts = [rank - len(term.replace("...", "")) for rank, term in zip(ranks, terms, strict=True)]
    left, right = (_letters(term, count) for term, count in zip(terms, counts, strict=True))
    out = _letters(result, hidden)
    batch = tuple(letter for letter in out if letter in left and letter in right)
    inner = [letter for letter in left if letter in right and letter not in out]
    rows = [letter for letter in left if letter in out and letter not in right]
    columns = [letter for letter in right if letter in out and letter not in left]
    once = all(len(set(term)) == len(term) for term in (left, right, out))
    known = len(batch) + 3 == len({*left, *right})
    if not (once and known and len(inner) == len(rows) == len(columns) == 1 and len(out) == len(batch) + 2):
        return None
    return Product(node, (0, 1), left, right, out, batch, rows[0], inner[0], columns[0])


def _letters(term: str, hidden: int) -> Letters:
    before, dots, after = term.partition("...")
    return (*before, *(f"b{i}" for i in range(hidden, 0, -1) if dots), *after)


def _laid(array: np.ndarray, letters: Letters, order: Letters) -> np.ndarray:
    present = [letter for letter in order if letter in letters]
    turned = array.transpose([letters.index(letter) for letter in present])
    return turned.reshape([turned.shape[present.index(letter)] if letter in present else 1 for letter in order])

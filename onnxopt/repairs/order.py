"""All repairs, in the order in which they are tried: each sees the graph that those before it left."""

from onnxopt.repairs.accuracy_level import AccuracyLevel
from onnxopt.repairs.dynamic_convolutions import DynamicConvolutions
from onnxopt.repairs.fault import Repair
from onnxopt.repairs.float_pairs import FloatPairs
from onnxopt.repairs.float_weights import FloatCopies, QuantizedAtLoading
from onnxopt.repairs.integer_types import ActivationType, WeightType
from onnxopt.repairs.products import StoredProducts
from onnxopt.repairs.repeated import RepeatedWeights
from onnxopt.repairs.stored_weights import StoredWeights

# Integers come first, because the others read them. Conversions come last among those for speed: only where weights are
# floats does it show what they cost.
REPAIRS: tuple[Repair, ...] = (
    QuantizedAtLoading(),
    ActivationType(),
    WeightType(),
    AccuracyLevel(),
    StoredProducts(),
    DynamicConvolutions(),
    StoredWeights(),
    FloatPairs(),
    FloatCopies(),
    RepeatedWeights(),
)

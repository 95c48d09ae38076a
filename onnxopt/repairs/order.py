"""All repairs, in the order of application: each works on the graph after the ones before it."""

from onnxopt.repairs.accuracy_level import AccuracyLevel
from onnxopt.repairs.dynamic_convolutions import DynamicConvolutions
from onnxopt.repairs.fault import Repair
from onnxopt.repairs.float_pairs import FloatPairs
from onnxopt.repairs.float_weights import FloatCopies, QuantizedAtLoading
from onnxopt.repairs.integer_types import ActivationType, WeightType
from onnxopt.repairs.products import StoredProducts
from onnxopt.repairs.repeated import RepeatedWeights
from onnxopt.repairs.split_operators import SplitOperators
from onnxopt.repairs.stored_weights import StoredWeights
from onnxopt.repairs.unaligned import UnalignedChannels
from onnxopt.repairs.weight_inputs import WeightInputs

# Constants come first, because the runtime folds nothing else, and operators that merge with layers; then integer
# types, because the other repairs read them. Conversions come last among repairs for speed: their cost shows only
# after weights are floats.
REPAIRS: tuple[Repair, ...] = (
    WeightInputs(),
    SplitOperators(),
    QuantizedAtLoading(),
    ActivationType(),
    WeightType(),
    AccuracyLevel(),
    StoredProducts(),
    DynamicConvolutions(),
    StoredWeights(),
    UnalignedChannels(),
    FloatPairs(),
    FloatCopies(),
    RepeatedWeights(),
)

from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.passes.simplify import Simplify
from onnxopt.search.candidates import keep_in_float
from onnxopt.search.trial import Candidate


def test_layers_kept_in_float_come_to_those_that_are_excluded_already():
    base = Candidate("static", (Simplify(), QuantizeStatic(exclude=("head", "stem"))))
    kept = keep_in_float(base, ("stem", "block1"))
    assert kept.name == "static-keep2"
    assert kept.passes == (Simplify(), QuantizeStatic(exclude=("head", "stem", "block1")))

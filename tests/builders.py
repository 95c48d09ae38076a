"""Small models, one per way in which the graphs that frameworks write differ; and samples to run them on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from ml_dtypes import bfloat16
from onnx import TensorProto, helper, numpy_helper

from onnxopt.model_file import from_proto, probe_feeds, signature_of, to_bytes
from onnxopt.samples import Samples

SIZES = {"batch": 1, "time": 5, "side": 8}
"""What the dynamic dimensions of the models below are in one sample."""

BUILDERS: dict[str, Callable[[], ir.Model]] = {}
"""Every model below, by name."""

RUNS_AT_ONE_ONLY = ("runs_at_one_only", "static_batch")
HALF = ("half_weights",)
"""Models that compute in 16-bit floats."""

Spec = tuple[str, int, Sequence[int | str] | None]


def builder(make: Callable[[], ir.Model]) -> Callable[[], ir.Model]:
    BUILDERS[make.__name__] = make
    return make


class Net:
    """A graph being written: nodes and weights in order, values called by name."""

    def __init__(self, seed: int, prefix: str = "") -> None:
        self.rng, self.prefix = np.random.RandomState(seed), prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.count = 0

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{self.prefix}{stem}_{self.count}"

    def node(self, op: str, *inputs: str, out: str | None = None, outs: int = 1, domain: str = "", **attrs: Any) -> Any:
        names = [out] if out else [self.fresh(op.lower()) for _ in range(outs)]
        name = attrs.pop("name", f"{op}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, domain=domain, **attrs))
        return names[0] if len(names) == 1 else names

    def const(self, array: Any, name: str | None = None) -> str:
        name = name or self.fresh("w")
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, name: str | None = None) -> str:
        fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 4
        return self.const((self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)

    def ints(self, *values: int, name: str | None = None) -> str:
        return self.const(np.array(values, np.int64), name)

    def conv(self, x: str, cin: int, cout: int, k: int = 3, group: int = 1, bias: bool = True, **attrs: Any) -> str:
        inputs = [x, self.weight(cout, cin // group, k, k)] + ([self.weight(cout)] if bias else [])
        attrs = {"pads": [k // 2] * 4, "group": group, "kernel_shape": [k, k], **attrs}
        return str(self.node("Conv", *inputs, **attrs))

    def bn(self, x: str, channels: int) -> str:
        variance = self.const(self.rng.uniform(0.5, 1.5, channels).astype(np.float32))
        stats = (self.weight(channels), self.weight(channels), self.weight(channels), variance)
        return str(self.node("BatchNormalization", x, *stats, epsilon=1e-5))

    def pool_fc(self, x: str, channels: int, classes: int, out: str = "y") -> str:
        flat = self.node("Flatten", self.node("GlobalAveragePool", x))
        return str(self.node("Gemm", flat, self.weight(classes, channels), self.weight(classes), transB=1, out=out))

    def proto(
        self,
        inputs: Sequence[Spec],
        outputs: Sequence[Spec],
        opset: int | None = 17,
        ir_version: int = 8,
        domains: Sequence[tuple[str, int]] = (),
        **extra: Any,
    ) -> onnx.ModelProto:
        def info(spec: Spec) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(spec[0], spec[1], spec[2])

        graph = helper.make_graph(
            self.nodes, "main", [info(s) for s in inputs], [info(s) for s in outputs], self.weights
        )
        imports = [helper.make_opsetid("", opset)] if opset else []
        imports += [helper.make_opsetid(*domain) for domain in domains]
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name="builders", **extra)

    def model(self, *args: Any, **extra: Any) -> ir.Model:
        return from_proto(self.proto(*args, **extra))


F, I64 = TensorProto.FLOAT, TensorProto.INT64
IMAGE: Spec = ("x", F, ["batch", 3, 8, 8])
ROWS: Spec = ("x", F, ["batch", 8])
TOKENS: Spec = ("x", F, ["batch", "time", 8])
CLASSES: Spec = ("y", F, ["batch", 4])


@builder
def residual_cnn() -> ir.Model:
    """Return Conv - BatchNormalization - Relu blocks with a residual."""
    net = Net(1)
    stem = net.node("Relu", net.bn(net.conv("x", 3, 8, bias=False), 8))
    inner = net.node("Relu", net.bn(net.conv(stem, 8, 8), 8))
    block = net.node("Relu", net.node("Add", net.bn(net.conv(inner, 8, 8, bias=False), 8), stem))
    net.pool_fc(block, 8, 4)
    return net.model([IMAGE], [CLASSES], opset=13)


@builder
def depthwise_separable() -> ir.Model:
    """Return what MobileNets are made of, with Clip for ReLU6 and a stride."""
    net = Net(2)
    low, high = net.const(np.float32(0)), net.const(np.float32(6))
    stem = net.node("Clip", net.conv("x", 3, 8, strides=[2, 2]), low, high)
    deep = net.node("Clip", net.bn(net.conv(stem, 8, 8, group=8, bias=False), 8), low, high)
    net.pool_fc(net.conv(deep, 8, 16, k=1), 16, 4)
    return net.model([IMAGE], [CLASSES], opset=12)


@builder
def hard_swish_9() -> ir.Model:
    """Return convolutions with an affine step behind each, and hard swishes of four operators, as PP-LCNet's export."""
    net = Net(30)

    def affine(value: str, scale: float, shift: float) -> str:
        return net.node("Add", net.node("Mul", value, net.const(np.float32([scale]))), net.const(np.float32([shift])))

    hidden = affine(net.conv("x", 3, 8), 1.3, -0.2)
    kept = net.node("Clip", net.node("Add", hidden, net.const(np.float32(3))), min=0.0, max=6.0)
    swish = net.node("Div", net.node("Mul", hidden, kept), net.const(np.float32(6)))
    net.pool_fc(affine(net.conv(affine(swish, 0.8, 0.1), 8, 8), 0.7, 0.3), 8, 4)
    return net.model([IMAGE], [CLASSES], opset=9)


@builder
def gemm_mlp() -> ir.Model:
    """Return Gemms: weights either way round, with a bias of full length, of shape (1,), of no axis, and of none."""
    net = Net(3)
    one = net.node("Relu", net.node("Gemm", "x", net.weight(16, 8), net.weight(16), transB=1))
    two = net.node("Relu", net.node("Gemm", one, net.weight(16, 12), net.weight(1)))
    three = net.node("Tanh", net.node("Gemm", two, net.weight(12, 8), net.const(np.float32(0.25)), beta=0.5))
    net.node("Gemm", three, net.weight(4, 8), transB=1, alpha=2.0, out="y")
    return net.model([ROWS], [CLASSES], opset=13)


def _layer_norm(net: Net, x: str, width: int) -> str:
    centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    squared = net.node("ReduceMean", net.node("Pow", centred, net.const(np.float32(2))), axes=[-1])
    deviation = net.node("Sqrt", net.node("Add", squared, net.const(np.float32(1e-5))))
    scaled = net.node("Mul", net.node("Div", centred, deviation), net.weight(width))
    return str(net.node("Add", scaled, net.weight(width)))


def _gelu(net: Net, x: str) -> str:
    erf = net.node("Erf", net.node("Div", x, net.const(np.float32(np.sqrt(2)))))
    return str(net.node("Mul", net.node("Mul", x, net.node("Add", erf, net.const(np.float32(1)))), _half(net)))


def _half(net: Net) -> str:
    return net.const(np.float32(0.5))


def _dense(net: Net, x: str, fan_in: int, fan_out: int, out: str | None = None) -> str:
    product = net.node("MatMul", x, net.weight(fan_in, fan_out))
    return str(net.node("Add", net.weight(fan_out), product, out=out))


def _attention(net: Net, x: str) -> str:
    heads = []
    for axes in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        split = net.node("Reshape", _dense(net, x, 8, 8), net.ints(0, 0, 2, 4))
        heads.append(net.node("Transpose", split, perm=axes))
    scores = net.node("Mul", net.node("MatMul", heads[0], heads[1]), _half(net))
    mixed = net.node("Transpose", net.node("MatMul", net.node("Softmax", scores, axis=-1), heads[2]), perm=[0, 2, 1, 3])
    return _dense(net, net.node("Reshape", mixed, net.ints(0, 0, 8)), 8, 8)


def _transformer(opset: int) -> ir.Model:
    net = Net(4)

    def norm(x: str) -> str:
        if opset >= 17:
            return str(net.node("LayerNormalization", x, net.weight(8), net.weight(8), axis=-1))
        return _layer_norm(net, x, 8)

    attended = norm(net.node("Add", "x", _attention(net, "x")))
    wide = _gelu(net, _dense(net, attended, 8, 16))
    normed = norm(net.node("Add", attended, _dense(net, wide, 16, 8)))
    _dense(net, net.node("ReduceMean", normed, axes=[1], keepdims=0), 8, 4, out="y")
    return net.model([TOKENS], [CLASSES], opset=opset)


@builder
def transformer_13() -> ir.Model:
    """Return a transformer block with decomposed LayerNorm and GELU."""
    return _transformer(13)


@builder
def transformer_14() -> ir.Model:
    """Return the same at opset 14."""
    return _transformer(14)


@builder
def transformer_17() -> ir.Model:
    """Return the same with the standard LayerNormalization of opset 17."""
    return _transformer(17)


@builder
def lstm() -> ir.Model:
    """Return a bidirectional LSTM and a dense layer on its last state."""
    net = Net(5)
    turned = net.node("Transpose", "x", perm=[1, 0, 2])
    weights = (net.weight(2, 24, 8), net.weight(2, 24, 6), net.weight(2, 48))
    _, state, _ = net.node("LSTM", turned, *weights, outs=3, hidden_size=6, direction="bidirectional")
    last = net.node("Reshape", net.node("Transpose", state, perm=[1, 0, 2]), net.ints(0, -1))
    net.node("Gemm", last, net.weight(4, 12), net.weight(4), transB=1, out="y")
    return net.model([TOKENS], [CLASSES], opset=14)


@builder
def gru() -> ir.Model:
    """Return a GRU, which the runtime has no INT8 form of."""
    net = Net(6)
    turned = net.node("Transpose", "x", perm=[1, 0, 2])
    weights = (net.weight(1, 18, 8), net.weight(1, 18, 6), net.weight(1, 36))
    _, state = net.node("GRU", turned, *weights, outs=2, hidden_size=6, linear_before_reset=1)
    net.node("MatMul", net.node("Squeeze", state, net.ints(0)), net.weight(6, 4), out="y")
    return net.model([TOKENS], [CLASSES], opset=13)


@builder
def nhwc() -> ir.Model:
    """Return convolutions of a channels-last framework between Transposes."""
    net = Net(7)
    x = "x"
    for cin, cout in ((3, 8), (8, 4)):
        inner = net.conv(net.node("Transpose", x, perm=[0, 3, 1, 2]), cin, cout)
        x = net.node("Relu", net.node("Transpose", inner, perm=[0, 2, 3, 1]))
    net.node("ReduceMean", x, axes=[1, 2], keepdims=0, out="y")
    return net.model([("x", F, ["batch", 8, 8, 3])], [CLASSES], opset=15)


@builder
def constant_nodes() -> ir.Model:
    """Return a model whose weights are Constant nodes, with an arithmetic on constants that folds away."""
    net = Net(8)

    def constant(*shape: int) -> str:
        array = (net.rng.standard_normal(shape) / 3).astype(np.float32)
        return str(net.node("Constant", value=numpy_helper.from_array(array)))

    scale = net.node("Mul", net.node("Constant", value_float=0.5), net.node("Constant", value_floats=[2.0]))
    hidden = net.node("Relu", net.node("Add", net.node("MatMul", "x", constant(8, 8)), constant(8)))
    flat = net.node("Reshape", net.node("Mul", hidden, scale), net.node("Constant", value_ints=[0, -1]))
    net.node("Gemm", flat, constant(4, 8), constant(4), transB=1, out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def behind_identity() -> ir.Model:
    """Return a model whose weights stand behind Identity and Transpose, one weight used twice that way."""
    net = Net(9)
    square = net.weight(8, 8)
    one = net.node("Relu", net.node("MatMul", "x", net.node("Identity", square)))
    two = net.node("Relu", net.node("MatMul", one, net.node("Transpose", square, perm=[1, 0])))
    head = net.node("Identity", net.node("Identity", net.weight(4)))
    net.node("Gemm", two, net.weight(8, 4), head, out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def shared_weights() -> ir.Model:
    """Return a model in which two layers share weight and bias."""
    net = Net(10)
    weight, bias = net.weight(8, 8, name="shared.weight"), net.weight(8, name="shared.bias")
    one = net.node("Relu", net.node("Gemm", "x", weight, bias, transB=1))
    two = net.node("Relu", net.node("Gemm", one, weight, bias, transB=1))
    net.node("Add", net.node("MatMul", two, weight), bias, out="y")
    return net.model([ROWS], [("y", F, ["batch", 8])], opset=13)


def listed_weights(opset: int = 8) -> ir.Model:
    """Return an IR 3 model, which must list its weights as inputs."""
    net = Net(11)
    hidden = net.node("Relu", net.bn(net.conv("x", 3, 8), 8))
    net.pool_fc(hidden, 8, 4)
    listed = [(w.name, w.data_type, list(w.dims)) for w in net.weights]
    return net.model([IMAGE, *listed], [CLASSES], opset=opset, ir_version=3)


@builder
def listed_weights_7() -> ir.Model:
    """Return it at opset 7."""
    return listed_weights(7)


@builder
def listed_weights_8() -> ir.Model:
    """Return it at opset 8."""
    return listed_weights(8)


@builder
def listed_weights_9() -> ir.Model:
    """Return it at opset 9."""
    return listed_weights(9)


@builder
def careless_names() -> ir.Model:
    """Return nodes without names, and one called as a made-up name might be."""
    net = Net(12)
    one = net.node("MatMul", "x", net.weight(8, 8), name="")
    two = net.node("Relu", one, name="layer")
    three = net.node("MatMul", two, net.weight(8, 8), name="")
    four = net.node("MatMul", three, net.weight(8, 8), name="MatMul_4")
    net.node("MatMul", four, net.weight(8, 4), name="", out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def odd_names() -> ir.Model:
    """Return tensor and node names with `:`, `;`, `/` and a blank, as TensorFlow's converter writes them."""
    net = Net(13)
    weight, bias = net.weight(8, 8, name="model/dense/MatMul/ReadVariableOp:0"), net.weight(8, name="model/b;model/c")
    net.node("MatMul", "in:0", weight, out="model/dense/MatMul:0", name="model/dense/MatMul")
    net.node("Add", "model/dense/MatMul:0", bias, out="model/dense/BiasAdd;x:0", name="model/dense/Bias Add")
    net.node("Relu", "model/dense/BiasAdd;x:0", out="Identity:0", name="model/Relu;0")
    return net.model([("in:0", F, ["batch", 8])], [("Identity:0", F, ["batch", 8])], opset=13)


@builder
def static_batch() -> ir.Model:
    """Return a model that takes exactly one sample, with shapes computed by a Shape - Gather - Concat chain."""
    net = Net(14)
    hidden = net.node("Relu", net.conv("x", 3, 4))
    batch = net.node("Gather", net.node("Shape", hidden), net.const(np.int64(0)), axis=0)
    target = net.node("Concat", net.node("Unsqueeze", batch, net.ints(0)), net.ints(-1), axis=0)
    net.node("MatMul", net.node("Reshape", hidden, target), net.weight(256, 4), out="y")
    return net.model([("x", F, [1, 3, 8, 8])], [("y", F, [1, 4])], opset=13)


@builder
def runs_at_one_only() -> ir.Model:
    """Return a model that declares a dynamic batch, but reshapes to a batch of one."""
    net = Net(15)
    hidden = net.node("Relu", net.conv("x", 3, 4))
    net.node("MatMul", net.node("Reshape", hidden, net.ints(1, 256)), net.weight(256, 4), out="y")
    return net.model([IMAGE], [("y", F, ["batch", 4])], opset=13)


@builder
def if_branches() -> ir.Model:
    """Return an If whose branches have weights of their own and read one of the graph around them."""
    outer = Net(16)
    branches = []
    for seed in (161, 162):
        inner = Net(seed, f"branch_{seed}_")
        inner.node("Add", inner.node("MatMul", "hidden", inner.const(np.eye(8, 4, dtype=np.float32) * seed)), "bias")
        out = inner.nodes[-1].output[0]
        result = helper.make_tensor_value_info(out, F, ["batch", 4])
        branches.append(helper.make_graph(inner.nodes, f"branch_{seed}", [], [result], inner.weights))
    outer.weight(4, name="bias")
    outer.node("MatMul", "x", outer.weight(8, 8), out="hidden")
    total = outer.node("ReduceSum", "hidden", keepdims=0)
    test = outer.node("Greater", total, outer.const(np.float32(0)))
    outer.node("If", test, out="y", then_branch=branches[0], else_branch=branches[1])
    return outer.model([ROWS], [CLASSES], opset=13)


@builder
def loop() -> ir.Model:
    """Return a Loop that applies one dense layer three times."""
    inner = Net(17, "body_")
    inner.node("Identity", "go", out="go_on")
    inner.node("Tanh", inner.node("MatMul", "state", inner.weight(8, 8)), out="next")
    body = helper.make_graph(
        inner.nodes,
        "body",
        [
            helper.make_tensor_value_info("turn", I64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", F, ["batch", 8]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", F, ["batch", 8]),
        ],
        inner.weights,
    )
    net = Net(171)
    first = net.node("MatMul", "x", net.weight(8, 8))
    last = net.node("Loop", net.const(np.int64(3)), net.const(np.bool_(True)), first, body=body)
    net.node("MatMul", last, net.weight(8, 4), out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def nested_capture() -> ir.Model:
    """Return a node in a subgraph of a subgraph that reads values of the outermost graph."""
    captured = helper.make_tensor_value_info

    def branch(name: str, nodes: list[onnx.NodeProto], out: str) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [captured(out, F, ["batch", 8])])

    inner = [
        branch("deep_then", [helper.make_node("Relu", ["late"], ["deep_a"], name="deep_relu")], "deep_a"),
        branch("deep_else", [helper.make_node("Add", ["late", "hidden"], ["deep_b"], name="deep_add")], "deep_b"),
    ]
    deep = helper.make_node("If", ["test"], ["deep"], name="deep_if", then_branch=inner[0], else_branch=inner[1])
    outer = [
        branch("outer_then", [deep], "deep"),
        branch("outer_else", [helper.make_node("Identity", ["hidden"], ["same"], name="outer_same")], "same"),
    ]
    net = Net(172)
    net.node("MatMul", "x", net.weight(8, 8), out="hidden")
    net.node("Sigmoid", net.node("MatMul", "hidden", net.weight(8, 8)), out="late")
    net.node("Greater", net.node("ReduceSum", "hidden", keepdims=0), net.const(np.float32(0)), out="test")
    chosen = net.node("If", "test", then_branch=outer[0], else_branch=outer[1])
    net.node("MatMul", chosen, net.weight(8, 4), out="y")
    return net.model([ROWS], [CLASSES], opset=13)


def _trees(net: Net, out: str = "y") -> None:
    net.node(
        "TreeEnsembleRegressor",
        "x",
        out=out,
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[1, 0, 0],
        nodes_modes=["BRANCH_LT", "LEAF", "LEAF"],
        nodes_values=[0.25, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[-1.5, 2.5],
    )


@builder
def trees_only() -> ir.Model:
    """Return trees as XGBoost exports them: no import of the standard operator set at all."""
    net = Net(18)
    _trees(net)
    return net.model([ROWS], [("y", F, ["batch", 1])], opset=None, domains=[("ai.onnx.ml", 1)])


@builder
def zipmap() -> ir.Model:
    """Return scikit-learn's classifier: integer labels, and probabilities as a sequence of maps."""
    net = Net(19)
    scaled = net.node("Scaler", "x", domain="ai.onnx.ml", offset=[0.0] * 8, scale=[0.5] * 8)
    coefficients = net.rng.standard_normal(24).tolist()
    chosen = {"coefficients": coefficients, "intercepts": [0.1, 0.0, -0.1], "classlabels_ints": [3, 5, 8]}
    label, scores = net.node(
        "LinearClassifier", scaled, outs=2, domain="ai.onnx.ml", **chosen, post_transform="SOFTMAX"
    )
    net.node("Cast", label, to=I64, out="label")
    net.node("ZipMap", scores, out="probabilities", domain="ai.onnx.ml", classlabels_int64s=[3, 5, 8])
    proto = net.proto([ROWS], [("label", I64, ["batch"])], opset=15, domains=[("ai.onnx.ml", 1)])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(I64, helper.make_tensor_type_proto(F, None)))
    proto.graph.output.append(helper.make_value_info("probabilities", kind))
    return from_proto(proto)


@builder
def two_outputs() -> ir.Model:
    """Return scores and the class they give, as an integer; an inner value is an output too."""
    net = Net(20)
    net.node("Relu", net.node("Gemm", "x", net.weight(8, 8), net.weight(8)), out="features")
    net.node("Gemm", "features", net.weight(8, 4), net.weight(4), out="scores")
    net.node("ArgMax", "scores", axis=1, keepdims=0, out="class")
    outputs = [("scores", F, ["batch", 4]), ("class", I64, ["batch"]), ("features", F, ["batch", 8])]
    return net.model([ROWS], outputs, opset=13)


@builder
def embedding() -> ir.Model:
    """Return a table of embeddings, tied to the output layer, and an attention mask as a second input."""
    net = Net(21)
    table = net.weight(16, 8, name="embedding")
    found = net.node("Gather", table, "ids", axis=0)
    kept = net.node("Mul", found, net.node("Unsqueeze", net.node("Cast", "mask", to=F), net.ints(-1)))
    net.node("MatMul", net.node("Tanh", kept), net.node("Transpose", table, perm=[1, 0]), out="y")
    inputs = [("ids", I64, ["batch", "time"]), ("mask", I64, ["batch", "time"])]
    return net.model(inputs, [("y", F, ["batch", "time", 16])], opset=13)


@builder
def data_movement() -> ir.Model:
    """Return Split, Concat, Resize, Pad, Slice and pooling between convolutions, on images of free size."""
    net = Net(22)
    halves = net.node("Split", net.conv("x", 3, 8), net.ints(4, 4), outs=2, axis=1)
    joined = net.node("Concat", net.node("Relu", halves[0]), net.conv(halves[1], 4, 4), axis=1)
    grown = net.node("Resize", joined, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    padded = net.node("Pad", grown, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.const(np.float32(0)))
    cut = net.node("Slice", padded, net.ints(1, 1), net.ints(-1, -1), net.ints(2, 3))
    net.pool_fc(net.node("MaxPool", net.conv(cut, 8, 4), kernel_shape=[2, 2], strides=[2, 2]), 4, 4)
    return net.model([("x", F, ["batch", 3, "side", "side"])], [CLASSES], opset=13)


@builder
def already_quantized() -> ir.Model:
    """Return a model with QuantizeLinear/DequantizeLinear pairs and integer weights."""
    net = Net(23)

    def pair(x: str, scale: float) -> str:
        step, zero = net.const(np.float32(scale)), net.const(np.uint8(128))
        return str(net.node("DequantizeLinear", net.node("QuantizeLinear", x, step, zero), step, zero))

    grid = net.const(net.rng.randint(-127, 128, (8, 4)).astype(np.int8))
    steps = net.const(net.rng.uniform(0.001, 0.01, 4).astype(np.float32))
    weight = net.node("DequantizeLinear", grid, steps, net.const(np.zeros(4, np.int8)), axis=1)
    pair_out = net.node("MatMul", pair("x", 0.03), weight)
    net.node("Softmax", pair(pair_out, 0.05), axis=-1, out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def denormals() -> ir.Model:
    """Return a model with denormal weights among the others."""
    net = Net(24)
    array = net.rng.standard_normal((8, 4)).astype(np.float32)
    array[::2, 0] = np.float32(1e-40)
    array[1, 1] = np.float32(-3e-42)
    net.node("MatMul", "x", net.const(array, "tiny"), out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def with_function() -> ir.Model:
    """Return a model that calls a function of its own (a FunctionProto) twice."""
    imports = [helper.make_opsetid("", 15)]
    body = [
        helper.make_node("MatMul", ["a", "w"], ["product"], name="product"),
        helper.make_node("Relu", ["product"], ["b"], name="relu"),
    ]
    function = helper.make_function("own", "Dense", ["a", "w"], ["b"], body, imports)
    net = Net(25)
    hidden = net.node("Dense", "x", net.weight(8, 8), domain="own")
    net.node("MatMul", net.node("Dense", hidden, net.weight(8, 8), domain="own"), net.weight(8, 4), out="y")
    return net.model([ROWS], [CLASSES], opset=15, domains=[("own", 1)], functions=[function])


@builder
def half_weights() -> ir.Model:
    """Return weights in bfloat16 behind a Cast, and a product in float16."""
    net = Net(26)
    rough = net.const((net.rng.standard_normal((8, 8)) / 3).astype(bfloat16))
    hidden = net.node("Relu", net.node("MatMul", "x", net.node("Cast", rough, to=F)))
    half = net.const((net.rng.standard_normal((8, 4)) / 3).astype(np.float16))
    product = net.node("MatMul", net.node("Cast", hidden, to=TensorProto.FLOAT16), half)
    net.node("Cast", product, to=F, out="y")
    return net.model([ROWS], [CLASSES], opset=13)


@builder
def with_metadata() -> ir.Model:
    """Return a model with the user's metadata, descriptions and version."""
    net = Net(27)
    net.node("MatMul", "x", net.weight(8, 4), out="y", doc_string="the only layer")
    proto = net.proto([ROWS], [CLASSES], opset=13, doc_string="a model", model_version=7, domain="org.example")
    proto.producer_version = "3.1"
    helper.set_model_props(proto, {"labels": '["a", "b"]', "author": "Zoë", "empty": ""})
    return from_proto(proto)


@builder
def nothing_to_do() -> ir.Model:
    """Return a model without weights or anything to fold: no pass may change it."""
    net = Net(28)
    net.node("Sin", "x", out="y")
    return net.model([ROWS], [("y", F, ["batch", 8])], opset=17)


class Made:
    """Samples drawn from a seed each; a whole run where a model has no batch axis."""

    def __init__(self, model: ir.Model, count: int, scale: float = 1.0, labels: np.ndarray | None = None) -> None:
        self.signature, self.count, self.scale, self.labels = signature_of(model), count, scale, labels
        self.name, self.stacks, self.drawn = "made", True, dict[int, dict[str, np.ndarray]]()

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, np.ndarray]:
        if index not in self.drawn:
            feeds = probe_feeds(self.signature, seed=index, sizes=SIZES, dynamic=1)
            self.drawn[index] = {
                k: (v[0] * self.scale).astype(v.dtype) if v.dtype.kind == "f" else v[0] for k, v in feeds.items()
            }
        return dict(self.drawn[index])


def samples_of(model: ir.Model, count: int = 8, batch_size: int = 4, labels: np.ndarray | None = None) -> Samples:
    """Return made-up samples of `model`, which must have a batch axis."""
    fixed = isinstance((signature_of(model).inputs[0].shape or (None,))[0], int)
    return Samples.of(Made(model, count, labels=labels), 1 if fixed else batch_size, fixed_batch=fixed)


def feeds_of(model: ir.Model, seed: int = 100, batch: int = 2) -> dict[str, np.ndarray]:
    """Return one batch; of one sample where the model runs no other."""
    return probe_feeds(signature_of(model), seed=seed, dynamic=1, sizes={**SIZES, "batch": batch})


def run(model: ir.Model | bytes, feeds: dict[str, np.ndarray], optimized: bool = False) -> list[Any]:
    """Return the outputs that ONNX Runtime gives, with all graph optimizations or with none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else to_bytes(model)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))

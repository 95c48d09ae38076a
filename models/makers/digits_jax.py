"""Make digits_jax: an MLP-Mixer in JAX with Flax, converted with jax2onnx. Needs requirements-jax.txt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import augment, load_split, publish
from flax import nnx
from jax2onnx import to_onnx

ABOUT = """
An MLP-Mixer over images with the channels last (NHWC): 2x2 patches make 16 tokens of width 64; each of four layers
mixes first across the tokens, then across the channels, both with a small perceptron with exact GELU behind a layer
norm; the mean over tokens goes through a linear layer. It was written in Flax (nnx) and converted with jax2onnx.
"""


class Perceptron(nnx.Module):
    """Two linear layers over the last axis."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.widen = nnx.Linear(width, hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.narrow(jax.nn.gelu(self.widen(x), approximate=False))


class Layer(nnx.Module):
    """Token mixing and channel mixing, each behind a norm and beside a shortcut."""

    def __init__(self, tokens: int, width: int, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.across_tokens = Perceptron(tokens, 2 * tokens, rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.across_channels = Perceptron(width, 3 * width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.across_tokens(self.norm1(x).swapaxes(1, 2)).swapaxes(1, 2)
        return x + self.across_channels(self.norm2(x))


class Mixer(nnx.Module):
    """Patch embedding, layers, mean pooling, linear layer."""

    def __init__(self, width: int = 64, layers: int = 4, *, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Conv(1, width, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)
        self.layers = nnx.List([Layer(16, width, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.classify = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = self.embed(image)
        x = x.reshape(x.shape[0], 16, x.shape[-1])
        for layer in self.layers:
            x = layer(x)
        return self.classify(self.norm(x).mean(axis=1))


def loss_of(net: Mixer, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy with smoothed labels."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.05)
    return optax.softmax_cross_entropy(net(images), targets).mean()


@nnx.jit
def step(net: Mixer, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array) -> None:
    """Update the network on one batch."""
    optimizer.update(net, nnx.grad(loss_of)(net, images, labels))


def train(net: Mixer, epochs: int = 120, peak_rate: float = 3e-3, batch: int = 50) -> None:
    """Train the network in place on freshly augmented images each epoch."""
    part, _ = load_split("nhwc")
    rng = np.random.default_rng(0)
    rate = optax.cosine_onecycle_schedule(epochs * len(part.labels) // batch, peak_rate)
    optimizer = nnx.Optimizer(net, optax.adamw(rate, weight_decay=0.02), wrt=nnx.Param)
    for _ in range(epochs):
        images = augment(part.images, rng)
        for chosen in rng.permutation(len(part.labels)).reshape(-1, batch):
            step(net, optimizer, jnp.asarray(images[chosen]), jnp.asarray(part.labels[chosen]))


def main() -> None:
    """Train, convert, check, write."""
    net = Mixer(rngs=nnx.Rngs(0))
    train(net)
    model = to_onnx(net, [("batch", 8, 8, 1)], model_name="mixer", input_names=["image"], output_names=["logits"])
    packages = ("jax", "flax", "jax2onnx", "onnx", "onnxruntime", "scikit-learn")
    publish(
        "digits_jax",
        model,
        "nhwc",
        reference=lambda images: np.asarray(net(jnp.asarray(images))),
        about=ABOUT,
        packages=packages,
    )


if __name__ == "__main__":
    main()

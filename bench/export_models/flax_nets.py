"""Small Flax NNX modules to export."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def _floats(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal(shape).astype(np.float32)


class Mlp(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.one, self.two, self.three = (
            nnx.Linear(16, 64, rngs=rngs),
            nnx.Linear(64, 64, rngs=rngs),
            nnx.Linear(64, 4, rngs=rngs),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.three(nnx.relu(self.two(nnx.relu(self.one(x)))))


class Cnn(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.one = nnx.Conv(3, 16, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(16, use_running_average=True, rngs=rngs)
        self.two = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.head = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.norm(self.one(x))), window_shape=(2, 2), strides=(2, 2))
        return self.head(jnp.mean(nnx.relu(self.two(x)), axis=(1, 2)))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(50, 32, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
        self.norm_one, self.norm_two = nnx.LayerNorm(32, rngs=rngs), nnx.LayerNorm(32, rngs=rngs)
        self.up, self.down = nnx.Linear(32, 64, rngs=rngs), nnx.Linear(64, 32, rngs=rngs)
        self.head = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embedding(tokens)
        x = self.norm_one(x + self.attention(x))
        x = self.norm_two(x + self.down(nnx.gelu(self.up(x))))
        return self.head(jnp.mean(x, axis=1))


class Lstm(nnx.Module):
    """The cell by hand: every gate is one matrix product."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.gates = nnx.Linear(8 + 16, 64, rngs=rngs)
        self.head = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, steps: jax.Array) -> jax.Array:
        hidden = cell = jnp.zeros_like(steps[:, 0, :1]) * jnp.ones((1, 16))
        for t in range(steps.shape[1]):
            i, f, g, o = jnp.split(self.gates(jnp.concatenate([steps[:, t], hidden], axis=-1)), 4, axis=-1)
            cell = nnx.sigmoid(f) * cell + nnx.sigmoid(i) * jnp.tanh(g)
            hidden = nnx.sigmoid(o) * jnp.tanh(cell)
        return self.head(hidden)


def mlp():
    return Mlp(nnx.Rngs(0)), _floats(8, 16)


def cnn():
    return Cnn(nnx.Rngs(0)), _floats(8, 16, 16, 3)


def transformer():
    return Transformer(nnx.Rngs(0)), np.random.RandomState(0).randint(0, 50, (8, 12)).astype(np.int32)


def lstm():
    return Lstm(nnx.Rngs(0)), _floats(8, 12, 8)

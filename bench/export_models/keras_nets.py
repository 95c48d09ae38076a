"""Small Keras models to export; the backend is Keras's own choice (KERAS_BACKEND)."""

import keras
import numpy as np
from keras import layers


def _floats(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal(shape).astype(np.float32)


def _gelu(x):
    # tf2onnx has no operator for Erfc, which TensorFlow computes the exact one by.
    return keras.activations.gelu(x, approximate=True)


def mlp():
    keras.utils.set_random_seed(0)
    inner = [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), layers.Dense(4)]
    return keras.Sequential([layers.Input((16,)), *inner]), _floats(8, 16)


def cnn():
    keras.utils.set_random_seed(0)
    inner = [
        layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4),
    ]
    return keras.Sequential([layers.Input((16, 16, 3)), *inner]), _floats(8, 16, 16, 3)


def transformer():
    keras.utils.set_random_seed(0)
    tokens = layers.Input((12,), dtype="int32")
    x = layers.Embedding(50, 32)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation=_gelu)(x)))
    out = layers.Dense(4)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, out), np.random.RandomState(0).randint(0, 50, (8, 12)).astype(np.int32)


def lstm(unroll=False):
    keras.utils.set_random_seed(0)
    return keras.Sequential([layers.Input((12, 8)), layers.LSTM(16, unroll=unroll), layers.Dense(4)]), _floats(8, 12, 8)

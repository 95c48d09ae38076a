"""Make digits_keras: a Keras CNN over NHWC images, converted with tf2onnx. Needs requirements-keras.txt."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import tensorflow as tf
import tf2onnx
from common import augmented_copies, load_split, publish
from keras import layers

ABOUT = """
A Keras convolutional network over images with the channels last (NHWC): two pairs of 3x3 convolutions, each with batch
normalization and each pair followed by max pooling, then flattening and two dense layers. It was converted with
tf2onnx, whose marks it bears: the convolutions run in NCHW, so the features pass a `Transpose` back to NHWC before they
are flattened; dense layers are `MatMul` and `Add`; tensor names hold slashes and colons.
"""


def normed(width: int) -> list[layers.Layer]:
    """Return a 3x3 convolution, batch normalization and ReLU."""
    return [layers.Conv2D(width, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]


def build() -> keras.Model:
    """Return the untrained network."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            *normed(48),
            *normed(48),
            layers.MaxPooling2D(2),
            *normed(96),
            *normed(96),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, name="logits"),
        ]
    )


def main() -> None:
    """Train, convert, check, write."""
    keras.utils.set_random_seed(0)
    tf.config.threading.set_intra_op_parallelism_threads(2)
    train_part, _ = load_split("nhwc")
    wide = augmented_copies(train_part, copies=20, seed=0)
    epochs, batch = 2, 50
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * len(wide.labels) // batch)
    net = build()
    net.compile(keras.optimizers.AdamW(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(wide.images, wide.labels, batch_size=batch, epochs=epochs, verbose=0)
    signature = [tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")]
    forward = tf.function(lambda image: {"logits": net(image, training=False)}, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(forward, input_signature=signature, opset=18)
    packages = ("tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime", "scikit-learn")
    publish(
        "digits_keras",
        model,
        "nhwc",
        reference=lambda images: net(images, training=False).numpy(),
        about=ABOUT,
        packages=packages,
    )


if __name__ == "__main__":
    main()

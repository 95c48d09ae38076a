"""Make digits_mlp: a scikit-learn multi-layer perceptron, converted with skl2onnx."""

import warnings

from common import augmented_copies, load_split, publish
from skl2onnx import to_onnx
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

ABOUT = """
A perceptron with hidden layers of 256 and 128 units over the 64 pixels, a scikit-learn `MLPClassifier` converted with
skl2onnx. It has two outputs, the predicted label and the probabilities of the classes (no `ZipMap`).
"""


def main() -> None:
    """Train, convert, check, write."""
    train_part, _ = load_split("flat")
    wide = augmented_copies(train_part, copies=20, seed=0)
    net = MLPClassifier((256, 128), alpha=1e-4, batch_size=100, max_iter=12, tol=0, random_state=0)
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen, not found
    net.fit(wide.images, wide.labels)
    model = to_onnx(net, train_part.images[:1], options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
    packages = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime")
    publish("digits_mlp", model, "flat", reference=net.predict_proba, about=ABOUT, packages=packages)


if __name__ == "__main__":
    main()

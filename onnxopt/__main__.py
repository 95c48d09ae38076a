"""`python -m onnxopt`, and the console script of the same name."""

import sys

from onnxopt.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())

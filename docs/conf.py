"""Sphinx: `make docs` writes docs/_build/html."""

import sys
from importlib.metadata import version as _version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import reference

project = "onnxopt"
author = "the onnxopt authors"
copyright = author
release = version = _version("onnxopt")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Names of languages that highlighting does not know, `->` in Python examples, and attributes of one name in several
# classes are no reason to fail.
suppress_warnings = ["misc.highlighting_failure", "myst.xref_missing_outside", "ref.python"]
html_theme = "furo"
html_title = f"onnxopt {release}"
html_static_path = []
autodoc_typehints = "description"
nitpicky = False

reference.write(Path(__file__).parent / "reference")

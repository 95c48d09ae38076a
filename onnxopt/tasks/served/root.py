"""The folder that a client's paths must lie in."""

from pathlib import Path

from onnxopt.errors import FileError, UsageError

_WORDS = ("digits", "digits:train", "random")


class Root:
    """One folder; names are relative to it, and none leads out of it, by `..` or by a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not self.folder.is_dir():
            raise FileError("ONX501", "the root is not a folder", where=str(folder), hint="Name an existing folder.")

    def path(self, name: str) -> Path:
        """Return the path of a file or folder, which may not exist yet, after all links.

        Raises:
            UsageError: ONX101 it lies outside.
        """
        try:
            whole = (self.folder / name).resolve()
        except (ValueError, OSError, RuntimeError) as error:  # a zero byte; a circle of links
            raise UsageError("ONX101", "this is not a path", where=name) from error
        if not whole.is_relative_to(self.folder):
            hint = "Paths are relative to the root; names and links that lead out of it are not followed."
            raise UsageError("ONX101", "the path lies outside the root", where=name, hint=hint)
        return whole

    def samples(self, name: str) -> str | Path:
        """Return samples by path, or by a word such as `random:64`; raises like `path`."""
        return name if name in _WORDS or name.startswith("random:") else self.path(name)

"""Check the rules of the house that no linter knows: `python .ci/house.py PACKAGE [FOLDERS THAT USE IT ...]`.

A line for each place that breaks one: a folder with too many files or with one, a file with too many lines, two public
classes of one name in a room, a docstring without a summary line, a function that takes more than five arguments by
position, a circle of imports, and public names that tests alone use.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_FILES, MOST_LINES, MOST_POSITIONS = 25, 300, 5
SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
WRAPPED = (
    "cache cached_property classmethod contextmanager dataclass final lru_cache overload property runtime_checkable "
    "setter staticmethod total_ordering"
)
"""Decorators that register nothing: what has another one, such as a command, is called by whoever registered it."""


@dataclass(frozen=True)
class Module:
    """A file of the package with its dotted name and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """The top-level folder of the package, or the file itself where it is in none."""
        return ".".join(self.name.split(".")[:2])


def findings(package: Path, users: Sequence[Path] = ()) -> list[str]:
    """Return a line for each place in `package` that breaks a rule; `users` are folders whose code may use it."""
    modules = [_module(path, package) for path in sorted(package.rglob("*.py"))]
    others = [_module(path, user) for user in users for path in sorted(user.rglob("*.py"))]
    rules = (_full_folders, _long_files, _twins, _summaries, _long_signatures, _circles)
    return [*(line for rule in rules for line in rule(modules)), *_unused(modules, others)]


def _module(path: Path, package: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return Module(".".join(parts).removesuffix(".__init__"), path, ast.parse(text), len(text.splitlines()))


def _full_folders(modules: Sequence[Module]) -> Iterator[str]:
    """Name folders with too many files; a folder that has `__init__.py` alone is a file of the folder above."""
    inits, package = {m.path.parent for m in modules if m.path.name == "__init__.py"}, modules[0].path.parent
    for folder, count in sorted(Counter(m.path.parent for m in modules).items()):
        if count > MOST_FILES:
            yield f"{folder}: {count} Python files, at most {MOST_FILES}"
        if count == 1 and folder in inits - {package}:
            yield f"{folder}: a folder of one file, which is a file of the folder above"


def _long_files(modules: Sequence[Module]) -> Iterator[str]:
    for module in modules:
        if module.lines > MOST_LINES:
            yield f"{module.path}: {module.lines} lines, at most {MOST_LINES}"


def _twins(modules: Sequence[Module]) -> Iterator[str]:
    """Name public classes that share their name with an earlier one of the room; an alias defines no class."""
    first = dict[tuple[str, str], str]()
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                here = f"{module.path}:{node.lineno}"
                earlier = first.setdefault((module.room, node.name), here)
                if earlier != here:
                    yield f"{here}: a second class {node.name} in {module.room}, after {earlier}"


def _summaries(modules: Sequence[Module]) -> Iterator[str]:
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Definition) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                if text.startswith(SECTIONS):
                    yield f"{module.path}:{node.lineno}: the docstring of {node.name} has no summary line"


def _long_signatures(modules: Sequence[Module]) -> Iterator[str]:
    """Name functions with many arguments by position: the others are given by name, or are one thing with a name."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                if len(names) > MOST_POSITIONS:
                    yield f"{module.path}:{node.lineno}: {node.name} takes {len(names)} arguments by position"


def _circles(modules: Sequence[Module]) -> Iterator[str]:
    """Name the modules that import each other, imports inside functions included, those for types alone left out."""
    known = {module.name for module in modules}
    reach = {module.name: sorted(set(_imports(module, known)) - {module.name}) for module in modules}
    for circle in _components(reach):
        if len(circle) > 1:
            yield f"{', '.join(sorted(circle))}: import each other"


def _imports(module: Module, known: set[str]) -> Iterator[str]:
    for node in _at_run_time(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in known)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    above = parts[: len(parts) - node.level + (module.path.name == "__init__.py")]
    return ".".join([*above, *([node.module] if node.module else [])])


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_run_time(child)


def _components(reach: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the strongly connected components (Tarjan, "Depth-first search and linear graph algorithms", 1972)."""
    index, low, stack, found = dict[str, int](), dict[str, int](), list[str](), list[list[str]]()

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in reach[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            place = stack.index(name)
            found.append(stack[place:])
            del stack[place:]

    for name in reach:
        if name not in index:
            visit(name)
    return found


def _unused(modules: Sequence[Module], others: Sequence[Module]) -> Iterator[str]:
    """Name public functions, classes, constants and methods that neither the package nor `others` use."""
    everyone = [*modules, *others]
    known = {module.name for module in modules}
    words, attributes = _words(everyone), Counter[str]()
    for module in everyone:
        attributes += Counter(n.attr for n in ast.walk(module.tree) if isinstance(n, ast.Attribute))
    reached = _reached(everyone, known)
    bases = _bases(modules)
    for module in modules:
        live = _live(module, reached[module.name] | words)
        for name, node in _public(module.tree.body):
            if name not in live and not _is_discovered(module, node):
                yield f"{module.path}:{node.lineno}: nothing uses {name} but tests"
            if isinstance(node, ast.ClassDef) and all(base in bases for base in _all_bases(node.name, bases)):
                for method, inner in _public(node.body):
                    if isinstance(inner, ast.FunctionDef) and not attributes[method] and not _is_registered(inner):
                        yield f"{module.path}:{inner.lineno}: nothing uses {name}.{method} but tests"


def _reached(everyone: Sequence[Module], known: set[str]) -> defaultdict[str, set[str]]:
    """Return by module the names that other modules import from it or read as its attributes."""
    found = defaultdict[str, set[str]](set)
    for module in everyone:
        read = {n.attr for n in ast.walk(module.tree) if isinstance(n, ast.Attribute)}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.name] |= read
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(node, module)
                for alias in node.names:
                    if f"{base}.{alias.name}" in known:
                        found[f"{base}.{alias.name}"] |= read
                    else:
                        found[base].add(alias.name)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                for name in _named_by(node, known):
                    found[name] |= read | _strings(module.tree)
    return found


def _named_by(call: ast.Call, known: set[str]) -> set[str]:
    """Return the modules that `import_module` may load: of the name that is written out, or of a folder of it."""
    written = [
        n.value for a in call.args for n in ast.walk(a) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    first = written[0] if written else " "
    return {name for name in known if name == first or (first.endswith(".") and name.startswith(first))}


def _live(module: Module, reached: set[str]) -> set[str]:
    """Return the names of a module that are reached, or read by what is reached or by what runs at import."""
    reads = defaultdict[str, set[str]](set)
    live, left = set[str](), list[str](reached)
    for node in module.tree.body:
        names = _defined(node)
        loaded = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        for name in names:
            reads[name].update(loaded)
        if not names or _is_registered(node) or _is_discovered(module, node):
            left += [*names, *loaded]
    while left:
        name = left.pop()
        if name not in live:
            live.add(name)
            left += reads[name]
    return live


def _bases(modules: Sequence[Module]) -> dict[str, list[str]]:
    found = defaultdict[str, list[str]](list)
    for node in (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)):
        found[node.name] += [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    return dict(found)


def _all_bases(name: str, bases: Mapping[str, list[str]]) -> set[str]:
    """Return the names of all classes above one; those of other packages may call what is defined here."""
    found, left = set[str](), list(bases.get(name, ()))
    while left:
        base = left.pop()
        if base not in found and base not in ("ABC", "Generic", "object"):
            found.add(base)
            left += bases.get(base, ())
    return found


def _public(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    yield from ((name, node) for node in body for name in _defined(node) if not name.startswith("_"))


def _defined(node: ast.stmt) -> list[str]:
    """Return the names of the function, class or constants that a statement defines."""
    if isinstance(node, Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    flat = (part for target in targets for part in ast.walk(target))
    return [part.id for part in flat if isinstance(part, ast.Name) and not part.id.startswith("__")]


def _is_registered(node: ast.stmt) -> bool:
    names = [ast.unparse(d).split("(")[0].split(".")[-1] for d in getattr(node, "decorator_list", ())]
    return any(name not in WRAPPED.split() for name in names)


def _is_discovered(module: Module, node: ast.stmt) -> bool:
    """Return whether a catalogue finds a class by walking its folder, as it does with passes."""
    is_pass = isinstance(node, ast.ClassDef) and any("Pass" in ast.unparse(base) for base in node.bases)
    return is_pass and module.room.endswith(".passes")


def _words(modules: Sequence[Module]) -> set[str]:
    """Return the names in tables of lazy imports, which stand in `__init__.py`, and those given to `getattr`."""
    found = set[str]()
    for module in modules:
        calls = [n for n in ast.walk(module.tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "getattr"]
        for tree in [module.tree] if module.path.name == "__init__.py" else calls:
            found |= _strings(tree)
    return found


def _strings(tree: ast.AST) -> set[str]:
    """Return the words of strings that are no prose."""
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {word for s in strings if isinstance(s, str) and " " not in s for word in re.split(r"\W+", s)}


def main(words: Sequence[str]) -> int:
    """Print the findings; return 1 where there are any."""
    lines = findings(Path(words[0]), [Path(word) for word in words[1:]])
    print("\n".join(lines) or "The house is in order.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

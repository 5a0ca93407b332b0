"""Find what could run foreign code, or trust a stranger, in Python source, by its syntax tree."""

import ast
from collections.abc import Iterator

# A module, or a function by its full name -> what is wrong with it.
MODULES = {
    name: "reads pickles"
    for name in (
        *("pickle", "_pickle", "cPickle", "pickletools", "copyreg", "marshal", "shelve"),
        *("dill", "cloudpickle", "joblib", "jsonpickle"),
    )
}
FUNCTIONS = {
    **dict.fromkeys(
        ("eval", "exec", "compile", "__import__", "code.interact", "runpy.run_path"), "runs text"
    ),
    **dict.fromkeys(("importlib.import_module", "importlib.__import__"), "imports by name"),
    "importlib.util.spec_from_file_location": "imports by name",
    **dict.fromkeys(
        ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
        "uses a shell",
    ),
    "asyncio.create_subprocess_shell": "uses a shell",
    **dict.fromkeys(
        ("ssl._create_unverified_context", "ssl._create_default_https_context", "ssl.CERT_NONE"),
        "leaves TLS unverified",
    ),
    **dict.fromkeys(("torch.load", "pandas.read_pickle"), "reads pickles"),
    "urllib3.disable_warnings": "leaves TLS unverified",
    **dict.fromkeys(
        ("urllib.request.urlopen", "urllib.request.urlretrieve"), "downloads without a check"
    ),
    "shutil.unpack_archive": "unpacks without a filter",
    **dict.fromkeys(
        ("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
        "reads objects from yaml",
    ),
    **dict.fromkeys(
        ("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader"),
        "reads objects from yaml",
    ),
    "tempfile.mktemp": "names a temporary file without making it",
    "numpy.fromstring": "reads past what it was given",
}
_SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader")


def findings(source: str) -> list[tuple[int, str]]:
    """Return line and fault of everything suspicious, in the order of the lines."""
    return sorted(set(_Finder().find(ast.parse(source))))


class _Finder:
    """Knows under which names a file has imported what."""

    def __init__(self):
        self.imported: dict[str, str] = {}

    def find(self, tree: ast.AST) -> Iterator[tuple[int, str]]:
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._import(node)
        for node in nodes:
            fault = self._fault(node)
            if fault:
                yield node.lineno, fault

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
        prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
        own = isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names:
            full = ("." if own else "") + prefix + alias.name
            short = alias.asname or (alias.name if prefix else alias.name.split(".")[0])
            self.imported[short] = full if alias.asname or prefix else short
            if full.split(".")[0] in MODULES:
                yield node.lineno, MODULES[full.split(".")[0]]

    def _full_name(self, node: ast.AST) -> str:
        """Return the dotted name that an expression stands for; empty: it is no name."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id).removeprefix("builtins.")
        if isinstance(node, ast.Attribute):
            before = self._full_name(node.value)
            return f"{before}.{node.attr}".removeprefix("builtins.") if before else ""
        return ""

    def _fault(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name | ast.Attribute):
            return FUNCTIONS.get(self._full_name(node))
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            return "catches everything"
        if isinstance(node, ast.Assign):
            return self._assignment(node)
        return self._call(node) if isinstance(node, ast.Call) else None

    def _assignment(self, node: ast.Assign) -> str | None:
        attributes = {t.attr for t in node.targets if isinstance(t, ast.Attribute)}
        is_false = isinstance(node.value, ast.Constant) and not node.value.value
        if is_false and attributes & {"check_hostname", "verify_mode", "verify"}:
            return "leaves TLS unverified"
        return None

    def _call(self, node: ast.Call) -> str | None:
        name = self._full_name(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else name
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "shell" in given and not _is(given["shell"], False):
            return "uses a shell"
        if "verify" in given and _is(given["verify"], False):
            return "leaves TLS unverified"
        if "allow_pickle" in given and not _is(given["allow_pickle"], False):
            return "reads pickles"
        if method in ("extractall", "extract") and not _is(given.get("filter"), "data"):
            return "unpacks without a filter"
        if name in ("yaml.load", "yaml.load_all"):
            loader = given.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
            if self._full_name(loader) not in _SAFE_LOADERS:
                return "reads objects from yaml"
        if name == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            attribute = ast.Attribute(node.args[0], str(node.args[1].value))
            return FUNCTIONS.get(self._full_name(attribute))
        return None


def _is(node: ast.AST | None, value: object) -> bool:
    return (
        isinstance(node, ast.Constant)
        and node.value is value
        or (isinstance(node, ast.Constant) and isinstance(value, str) and node.value == value)
    )

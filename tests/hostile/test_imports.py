"""Nothing that is read is ever run: no pickle, no marshal, no eval, no loader of objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "xmlrpc"}
CALLS = {
    *("torch.load", "torch.hub.load", "numpy.load", "np.load", "pandas.read_pickle", "read_pickle"),
    *(
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
        "eval",
        "exec",
        "compile",
        "__import__",
    ),
    *("os.system", "os.popen", "subprocess.getoutput"),
}
KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}
"""May be given as False alone."""


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            safe = any(k.arg == "weights_only" and constant(k.value) is True for k in node.keywords)
            if name_of(node.func) in CALLS and not safe:
                yield name_of(node.func)
            for keyword in node.keywords:
                if keyword.arg in KEYWORDS and constant(keyword.value) is not False:
                    yield f"{keyword.arg}="


def test_the_search_finds() -> None:
    found = (
        "import pickle\nfrom marshal import loads\ntorch.load(x)\nyaml.load(x)\nf(shell=True)\nf(shell=False)"
    )
    assert list(offences(ast.parse(found))) == ["pickle", "marshal", "torch.load", "yaml.load", "shell="]


def test_nothing_is_run_that_was_read() -> None:
    files = [file for part in ("proto", "shared", "services") for file in (ROOT / part).rglob("*.py")]
    assert len(files) > 200
    found = {
        f"{file.relative_to(ROOT)}: {each}"
        for file in files
        for each in offences(ast.parse(file.read_text()))
    }
    assert not found

"""What may import what: the layering of the package, read from its sources and from a running interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "spiked"
SOURCES = sorted(PACKAGE.rglob("*.py"))
BY_NAME = "<a module named at run time>"
HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "aedat", "faery", "pandas")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            found.add(node.args[0].value if isinstance(node.args[0], ast.Constant) else BY_NAME)
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def parametrize(*folders: str):
    paths = [p for p in SOURCES if not folders or p.relative_to(PACKAGE).parts[0] in folders]
    return pytest.mark.parametrize("path", paths, ids=module_of)


@parametrize()
def test_no_pickle_and_torch_only_offline(path):
    for name in imports_of(path):
        assert not within(name, "pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"), name
        if within(name, "torch"):
            assert path.is_relative_to(PACKAGE / "learners" / "offline"), name
        assert name != BY_NAME or path.name == "cmd_doctor.py", "only `spiked doctor` looks at what is installed"


@parametrize("learners")
def test_learners_are_mathematics(path):
    allowed = [
        "spiked.learners",
        "numpy",
        "numba",
        "llvmlite",
        "__future__",
        "typing",
        "dataclasses",
        "math",
        "collections",
    ]
    allowed += ["contextlib", "copy", "enum", "functools", "itertools"]
    if path.name == "jit.py":  # the one that owns compilation knows the disk
        allowed += ["hashlib", "os", "platform", "pathlib", "shutil"]
    if path.is_relative_to(PACKAGE / "learners" / "offline"):
        allowed += ["torch", "pathlib"]
    for name in imports_of(path):
        assert within(name, *allowed), name


@parametrize("io")
def test_io_knows_no_learner_and_no_service(path):
    for name in imports_of(path):
        if within(name, "spiked"):
            # encoders are functions of samples: they know no learner either
            learners = [f"spiked.learners.{module}" for module in ("bundle", "contract", "encoders", "jit")]
            allowed = ["spiked.io", *learners]
            assert within(name, *allowed), name


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(out.stdout.split())


@pytest.mark.parametrize("module", ["spiked.service.pipeline", "spiked.service.daemon"])
def test_the_running_daemon_pulls_in_nothing_heavy(module):
    numba, daemon = loaded_by("numba"), loaded_by(module)  # Numba itself takes SciPy in where it is installed
    assert "numba" in daemon
    assert (daemon - numba).isdisjoint(HEAVY)

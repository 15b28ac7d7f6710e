"""Imports go one way; a shortcut against the direction would tangle model, data and trainer for
good.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a package may import of ours, beside itself. `endings`, `settings`, `trees`, `batch` and
# `git_lfs` are the ground floor.
GROUND = {f"qwenvl_jax.{name}" for name in ("trees", "batch", "settings", "endings", "git_lfs")}
ALLOWED = {
    "qwenvl_jax.endings": set(),
    "qwenvl_jax.command_line": {"qwenvl_jax.endings"},
    "qwenvl_jax.trees": set(),
    "qwenvl_jax.batch": set(),
    "qwenvl_jax.settings": set(),
    "qwenvl_jax.git_lfs": set(),
    "qwenvl_jax.parallel": GROUND,
    "qwenvl_jax.model": GROUND | {"qwenvl_jax.parallel"},
    "qwenvl_jax.text": {"qwenvl_jax.batch", "qwenvl_jax.git_lfs"},
    "qwenvl_jax.image": {"qwenvl_jax.batch"},
    "qwenvl_jax.checkpoint": GROUND | {"qwenvl_jax.parallel", "qwenvl_jax.model"},
}
ALLOWED["qwenvl_jax.inference"] = ALLOWED["qwenvl_jax.checkpoint"] | {"qwenvl_jax.checkpoint"}
ALLOWED["qwenvl_jax.eval"] = ALLOWED["qwenvl_jax.inference"] | {"qwenvl_jax.inference"}
ALLOWED["qwenvl_jax.train"] = ALLOWED["qwenvl_jax.eval"]
# Files that an export carries: PyTorch code for transformers. They stand alone.
CARRIED = sorted(ROOT.glob("qwenvl_jax/checkpoint/released/torch/*.py"))
FILES = sorted(
    {*ROOT.glob("qwenvl_jax/**/*.py"), *ROOT.glob("data_pipelines/**/*.py")} - {*CARRIED}
)


def imports(path: Path) -> set[str]:
    """Every module a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where things come from"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package(module: str) -> str:
    """`qwenvl_jax.model.vit` -> `qwenvl_jax.model`."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_direction(path):
    here = package(str(path.relative_to(ROOT).with_suffix("")).replace("/", "."))
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in ("launch", "configs", "tests"), f"{path} imports {module}"
        if here.startswith("qwenvl_jax"):
            assert top != "data_pipelines", f"{path} imports {module}"
            if top == "qwenvl_jax" and here in ALLOWED and package(module) != here:
                known = package(module) in ALLOWED[here] | {"qwenvl_jax"}
                assert known, f"{path} imports {module}"
        if top == "flax":
            assert here == "qwenvl_jax.model", f"{path} imports flax; only model/ does"
        if top == "torch":
            assert path.name == "torch_file.py", f"{path} imports torch; only torch_file.py does"
        assert top not in ("tensorflow", "pickle"), f"{path} imports {module}"


def test_carried_files_stand_alone():
    """In an export's directory there is neither this library nor JAX."""
    known = {"torch", "transformers", "numpy", "PIL", "sentencepiece", "tiktoken"}
    assert CARRIED
    for path in CARRIED:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and path.with_name(f"{node.module}.py") in CARRIED, path
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [getattr(node, "module", None) or a.name for a in node.names]
                for top in {module.split(".")[0] for module in modules}:
                    assert top in known | sys.stdlib_module_names, f"{path} imports {top}"


def test_carried_files_are_not_imported():
    """They import torch, which the library does without."""
    for path in FILES:
        assert not any("released.torch" in module for module in imports(path)), path


def test_every_package_has_its_place():
    """A new package without a line in the table would be free to import anything."""
    names = {f"qwenvl_jax.{path.stem}" for path in (ROOT / "qwenvl_jax").iterdir()}
    assert names - {"qwenvl_jax.__init__", "qwenvl_jax.__pycache__"} == set(ALLOWED)


def test_no_cycles():
    """Two files that need each other are one idea cut in two."""
    names = {str(p.relative_to(ROOT).with_suffix("")).replace("/", "."): p for p in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    waiting = {}
    for name, path in names.items():
        needs = imports(path) & names.keys()
        # `from package import file` names the package too, but needs only the file.
        needs -= {need for need in needs if any(n.startswith(f"{need}.") for n in needs)}
        waiting[name] = needs - {name}
    while waiting:
        free = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        assert free, f"these files import each other: {sorted(waiting)}"
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_offline_jobs_need_no_jax():
    """Filtering runs on machines without it, so nothing on the way to a job may import it."""
    code = "import sys, data_pipelines.build.scenes; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_file_is_long():
    """One idea a file."""
    for path in [*FILES, *CARRIED, *ROOT.glob("launch/*.py"), *ROOT.glob("tests/**/*.py")]:
        assert len(path.read_text("utf-8").splitlines()) <= 300, path

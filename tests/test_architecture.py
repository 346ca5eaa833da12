"""The house keeps its floors: who may import whom, what no file may do, and that importing does no work."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "trivium"

# A file imports only from its own floor or a lower one; the floor of each name at the top of the package.
FLOORS = {
    "__init__": 0, "errors": 0, "records": 0, "batch": 0, "publish": 0, "native": 0, "model": 0, "losses": 0,
    "terms": 0, "wording": 0, "allowance": 0,
    "config": 1, "compute": 1, "text": 1, "worlds": 1, "generate": 1, "distributed": 1, "feedback": 1,
    "runs": 2, "lineage": 2, "evaluate": 2, "plan": 2, "show": 2,
    "train": 3, "shelf": 3,
    "phases": 4,
    "story": 5, "report": 5,
    "studio": 6, "flags": 6, "ballot": 6, "using": 6, "cli": 6, "__main__": 7,
}  # fmt: skip
NOWHERE = {"utils", "common", "helpers", "misc"}
MOST_LINES = 400


def name_of(path: Path) -> str:
    """trivium/model/hub.py → trivium.model.hub"""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str, *, top_level: bool = False) -> Iterator[str]:
    """Everything that a module imports, by full name; of `from a import b`, a.b, and a unless b is a module."""
    for node in tree(module).body if top_level else ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the floor"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from named
            if not all(name in MODULES for name in named):
                yield node.module or ""


def ours(module: str, *, top_level: bool = False) -> set[str]:
    """Which of our modules it imports."""
    return {name for name in imports(module, top_level=top_level) if name in MODULES and name != "trivium"}


def floor(module: str) -> int:
    top = module.removeprefix("trivium").lstrip(".").split(".")[0] or "__init__"
    assert top in FLOORS, f"{module}: give {top} a floor in this file"
    return FLOORS[top]


def test_every_file_imports_only_from_its_own_floor_or_a_lower_one() -> None:
    climbs = [
        f"{module} imports {found}" for module in MODULES for found in ours(module) if floor(found) > floor(module)
    ]
    assert climbs == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {module: ours(module, top_level=True) for module in MODULES}
    while free := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert waiting == {}


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    top = {module: ".".join(module.split(".")[:2]) for module in MODULES}
    waiting = {
        name: {top[found] for m in MODULES if top[m] == name for found in ours(m)} - {name}
        for name in set(top.values())
    }
    while free := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert waiting == {}


def inside(package: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"trivium.{package}")]


def test_model_and_losses_know_nothing_but_errors_and_batches() -> None:
    allowed = ("trivium.model", "trivium.losses", "trivium.errors", "trivium.batch", "trivium.native")
    for module in [*inside("model"), *inside("losses")]:
        assert [found for found in ours(module) if not found.startswith(allowed)] == []
    for module in inside("losses"):
        assert [found for found in ours(module) if found.startswith("trivium.model")] == []


def test_only_distributed_and_the_checkpoint_speak_to_torch_distributed() -> None:
    speaking = {m for m in MODULES if any(name.startswith("torch.distributed") for name in imports(m))}
    assert {m for m in speaking if not m.startswith("trivium.distributed")} <= {"trivium.train.checkpoint"}


def test_the_loop_never_learns_what_it_trains() -> None:
    for module in inside("train"):
        assert [
            found for found in ours(module) if found.startswith(("trivium.phases", "trivium.losses", "trivium.text"))
        ] == []


def test_a_phase_does_not_import_its_siblings() -> None:
    def phase(module: str) -> str:
        return module.split(".")[2]

    for module in inside("phases."):
        siblings = {found for found in ours(module) if found.startswith("trivium.phases.")}
        assert {phase(found) for found in siblings} <= {phase(module)}


def test_the_studio_starts_the_command_line_and_trains_nothing_itself() -> None:
    for module in inside("studio"):
        assert [found for found in ours(module) if found.startswith(("trivium.train", "trivium.phases"))] == []


def test_no_file_is_called_after_nothing() -> None:
    assert [str(path) for path in PACKAGE.rglob("*") if path.stem in NOWHERE] == []


@pytest.mark.parametrize("module", [name for name in MODULES if name != "trivium.__main__"])
def test_importing_a_module_only_defines(module: str) -> None:
    """At module level there are no loops, no `with`, and no bare calls."""
    at_work = (ast.For, ast.While, ast.With, ast.Try, ast.Assert, ast.Delete)
    lines = [f"{module}:{node.lineno}" for node in tree(module).body if isinstance(node, at_work)]
    calls = [
        f"{module}:{node.lineno}"
        for node in tree(module).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert [*lines, *calls] == []


def test_files_are_short_enough_to_be_read_at_once() -> None:
    for path in [*MODULES.values(), *Path(__file__).parent.rglob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path} has {lines} lines"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["trivium", "trivium.cli", "trivium.config", "trivium.runs", "trivium.feedback.store"]
)
def test_torch_is_not_imported_by(module: str) -> None:
    assert run_python(f"import sys, {module}; print('torch' in sys.modules)") == "False"


def test_importing_everything_writes_no_file_and_starts_no_thread_or_process() -> None:
    names = [name for name in MODULES if name != "trivium.__main__"]
    code = f"""
import importlib, sys
STARTING = {{"socket.connect", "subprocess.Popen", "os.fork", "os.mkdir", "_thread.start_new_thread"}}
seen = []

def is_ours(frame):  # whether we, and not a library we import, are doing it
    while frame:
        if "site-packages" in frame.f_code.co_filename:
            return False
        if {str(PACKAGE)!r} in frame.f_code.co_filename:
            return True
        frame = frame.f_back

def hook(event, args):
    mode = args[1] if event == "open" and "pycache" not in str(args[0]) else None
    writes = isinstance(mode, str) and set(mode) & set("wax+")
    if (writes or event in STARTING) and is_ours(sys._getframe(1)):
        seen.append((event, args))

sys.dont_write_bytecode = True
sys.addaudithook(hook)
for name in {names!r}:
    importlib.import_module(name)
print(seen)
"""
    assert run_python(code) == "[]"

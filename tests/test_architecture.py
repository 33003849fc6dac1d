"""The house rules: imports point one way, nothing heavy is imported early, nothing grows too large."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "headstart"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The order in which a picture walks through the house; a module may import from its own room and from earlier ones.
ROOMS = [
    "errors",
    "storage",
    "scratch",
    "parallel",
    "processes",
    "progress",
    "pictures",
    "features",
    "learning",
    "judging",
    "delivery",
]
LATE = ["site", "workflow", "contests", "scale", "terminal", "demonstration", "options", "commands", "cli", "__main__"]
ORDER = {name: number for number, name in enumerate(ROOMS + LATE)}

# What imports torch at its top; nothing else imports one of these at its own: torch is loaded only where needed.
TORCH_MODULES = {"activations", "allocator", "arithmetic", "augment", "checkpoint", "cutting", "finetune", "folding"}
TORCH_MODULES |= {"anatomy", "label_safety", "layers", "loop", "mixing", "networks", "optimise", "pixels", "preview"}
TORCH_MODULES |= {"insight", "joining", "receptive", "showing", "sources", "student", "tune"}

MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 500, 80, 8
OPTIONS_OF_A_COMMAND = 14  # a command's parameters are its options, declared once
BANNED_NAMES = {"utils", "common", "helpers", "manager", "misc"}


def name_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports_of(path, *, top_only=False):
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent != PACKAGE or path.name != "__init__.py"], ids=name_of
)
def test_imports_point_one_way(path):
    here = room_of(name_of(path))
    for imported in imports_of(path):
        room = room_of(imported) if imported.startswith("headstart.") else ""
        if room in ORDER:
            assert ORDER[room] <= ORDER[here], f"{name_of(path)} imports {imported} from a later room"


def test_no_module_takes_part_in_a_cycle():
    names = {name_of(path) for path in MODULES}
    graph = {
        name_of(path): {other for other in imports_of(path) if other in names} - {name_of(path), "headstart"}
        for path in MODULES
        if name_of(path) != "headstart"
    }
    while free := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert not graph, f"imports go round in circles: {sorted(graph)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_is_imported_only_where_networks_are_made(path):
    heavy = {"torch", "torchvision", "timm", "sklearn", "scipy", "accelerate", "matplotlib", "pydantic"}
    imported = set(imports_of(path, top_only=True))
    heavy_here = {name for name in imported if name.split(".")[0] in heavy or name.split(".")[-1] in TORCH_MODULES}
    assert not heavy_here or path.stem in TORCH_MODULES | {"recipes"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_grows_too_large(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            count = len(node.args.args) + len(node.args.kwonlyargs)
            most = OPTIONS_OF_A_COMMAND if path.name == "cli.py" else MOST_PARAMETERS
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, f"{node.name} is too long"
            assert count <= most, f"{node.name} takes {count} parameters"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_does(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert path.stem not in BANNED_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_library_does_not_print(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def loaded_after(code):
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_after("import headstart") & {"numpy", "torch", "openvino", "PIL", "click"}


def test_help_loads_nothing_heavy():
    call = "from headstart.cli import main\ntry: main()\nexcept SystemExit: pass"
    code = f"import sys\nsys.argv = ['headstart', '--help']\n{call}"
    assert not loaded_after(code) & {"numpy", "torch", "openvino", "PIL", "rich"}


def test_training_from_features_and_predicting_load_no_torch():
    code = "import headstart.workflow, headstart.terminal, headstart.delivery.answers, headstart.delivery.sheet"
    assert not loaded_after(code) & {"torch", "torchvision", "timm", "sklearn", "scipy", "onnx"}


def test_every_public_name_can_be_fetched():
    import headstart

    for name in headstart.__all__:
        assert getattr(headstart, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        headstart.nothing_of_the_kind  # noqa: B018

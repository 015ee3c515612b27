"""Who may import what, what is packaged, and what an import costs."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections import defaultdict
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AREAS = ("runtime", "train", "export", "benchmarks")
EXPERIMENTS = ROOT / "benchmarks" / "experiments"  # scripts that are not in the wheel
MAY_IMPORT = {
    "runtime": {"runtime"},
    "train": {"train", "runtime"},
    "export": {"export", "runtime"},
    "benchmarks": set(AREAS),
}
MARK = "-- modules --"
COMMANDS = ("rsna-train", "rsna-export", "rsna-run", "rsna-bench")


def sources(area: str) -> list[Path]:
    return sorted((ROOT / area).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def modules() -> dict[str, Path]:
    """Name below rsna_lumbar -> file, of all that is in the wheel."""
    files = [
        path for area in AREAS for path in sources(area) if not path.is_relative_to(EXPERIMENTS)
    ]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def imports_between_files() -> dict[str, set[str]]:
    """Module -> modules of the project that it imports, inside functions too."""
    known, found = modules(), {}
    for name, path in known.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rsna_lumbar."):
                base = (node.module or "").removeprefix("rsna_lumbar.")
                wanted |= {f"{base}.{alias.name}" for alias in node.names} | {base}
            elif isinstance(node, ast.Import):
                wanted |= {alias.name.removeprefix("rsna_lumbar.") for alias in node.names}
        packages = {f"{one}.__init__" for one in wanted}
        found[name] = (wanted | packages) & set(known)
    return found


def package_of(module: str) -> str:
    """``runtime.run`` of ``runtime.run.journal``; ``runtime`` of ``runtime.cli``."""
    return module.rpartition(".")[0]


def map_of_design() -> dict[str, set[str]]:
    """Package -> what it may import of its own area, as the tables of docs/design.md say."""
    lines = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").splitlines()
    allowed: dict[str, set[str]] = {}
    for area in AREAS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| `{area}/` |"))
        rows = list(takewhile(lambda line: line.startswith("|"), lines[start + 2 :]))
        direct: dict[str, set[str]] = {}  # in the order of the rows
        for row in rows:
            names, _, imports = (cell.strip() for cell in row.strip("|").split("|"))
            listed = [name.strip("` ") for name in names.split(",")]
            for package in sorted({name.rstrip("/") * name.endswith("/") for name in listed}):
                direct[package] = set(filter(None, imports.split(", ")))
        below: dict[str, set[str]] = {}
        for package in reversed(direct):  # what a row names stands below it
            named = set(below) if direct[package] == {"all below"} else direct[package]
            assert named <= set(below), f"{area}/{package} names what is not below it"
            below[package] = named.union(*(below[name] for name in named))
        for package, names in below.items():
            full = {".".join((area, *name.split("/"))) for name in names | {"core"}}
            allowed[".".join(filter(None, (area, *package.split("/"))))] = full
    return allowed


def configuration() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.mark.parametrize("area", AREAS)
def test_areas_import_only_what_they_may(area: str) -> None:
    assert sources(area)
    for path in sources(area):
        for module in imported_modules(path):
            head, _, rest = module.partition(".")
            assert head not in (*AREAS, "tests"), f"{path}: import rsna_lumbar.{head} instead"
            if head == "rsna_lumbar":
                assert rest.split(".")[0] in MAY_IMPORT[area], f"{path} imports {module}"


def test_packages_import_what_the_map_says() -> None:
    """With ``-s`` it prints packages, how many files each has, and what it imports."""
    allowed, found = map_of_design(), defaultdict(set)
    for module, wanted in imports_between_files().items():
        wanted -= {f"{area}.__init__" for area in AREAS}  # which load nothing by themselves
        found[package_of(module)] |= {package_of(one) for one in wanted}
    assert set(found) == set(allowed) - {"benchmarks.experiments"}
    for package, names in found.items():
        area = package.partition(".")[0]
        own = {name for name in names if name.partition(".")[0] == area and name != package}
        files = sum(package_of(module) == package for module in modules())
        print(f"{package:28}{files:3} files -> {', '.join(sorted(own)) or '-'}")
        assert own <= allowed[package], f"{package} imports {own - allowed[package]}"


def test_no_imports_run_in_a_circle() -> None:
    left = imports_between_files()
    while ends := [
        module for module, wanted in left.items() if not (wanted - {module}) & set(left)
    ]:
        left = {module: wanted for module, wanted in left.items() if module not in ends}
    assert not left


def test_no_file_is_called_like_a_module_of_the_standard_library() -> None:
    paths = [path for area in AREAS for path in sources(area)]
    assert not [path for path in paths if path.stem in sys.stdlib_module_names - {"__init__"}]


@pytest.mark.parametrize("path", sources("runtime"), ids=lambda p: str(p.relative_to(ROOT)))
def test_runtime_names_no_training_library(path: Path) -> None:
    heavy = {"torch", "torchvision", "ultralytics", "cv2", "onnx", "matplotlib"}
    assert not heavy & {module.partition(".")[0] for module in imported_modules(path)}


def test_tests_import_the_package_and_never_the_folder() -> None:
    for path in sources("tests"):
        heads = {module.partition(".")[0] for module in imported_modules(path)}
        assert not heads & {*AREAS, "tests"}, path


def test_every_package_folder_is_in_setup_cfg() -> None:
    listed = set(configuration()["options"]["packages"].split())
    folders = {
        ".".join(("rsna_lumbar", *path.parent.relative_to(ROOT).parts))
        for area in AREAS
        for path in (ROOT / area).rglob("__init__.py")
    }
    assert listed == folders


def test_every_folder_with_code_is_a_typed_package() -> None:
    for area in AREAS:
        assert (ROOT / area / "py.typed").exists(), area
        for path in sources(area):
            if not path.is_relative_to(EXPERIMENTS):
                assert (path.parent / "__init__.py").exists(), path


def test_packaged_data_is_installed() -> None:
    """A file that setup.cfg forgets is missing from the wheel but not from the tree."""
    installed = {str(path) for path in metadata.files("rsna-lumbar") or ()}
    data = [
        path.relative_to(ROOT).as_posix()
        for area in AREAS
        for path in (ROOT / area).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and area != "benchmarks"
    ]
    assert data
    if not any(name.endswith("runtime/core/labels.py") for name in installed):
        pytest.skip("an editable install lists no files; .ci/run checks the wheel")
    assert not [name for name in data if f"rsna_lumbar/{name}" not in installed]


def loaded_by(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint('{MARK}', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition(MARK)[2].split())


def test_runtime_loads_neither_torch_nor_ultralytics() -> None:
    names = "import rsna_lumbar.runtime as r; [getattr(r, name) for name in r.__all__]"
    loaded = loaded_by(names)
    assert "rsna_lumbar.runtime.inference.pipeline" in loaded
    assert not loaded & {"torch", "ultralytics", "onnx", "cv2", "matplotlib"}


@pytest.mark.parametrize("area", ("runtime", "train", "export", "benchmarks"))
def test_help_imports_nothing_heavy(area: str) -> None:
    loaded = loaded_by(
        f"from rsna_lumbar.{area}.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    )
    heavy = {"numpy", "pandas", "pydicom", "onnxruntime", "onnx", "torch", "ultralytics", "PIL"}
    assert not loaded & heavy


@pytest.mark.parametrize("part", ("model", "pipeline", "start"))
def test_help_of_a_part_of_the_benchmark_imports_nothing_heavy(part: str) -> None:
    loaded = loaded_by(
        f"from rsna_lumbar.benchmarks.cli import main\ntry:\n    main(['{part}', '--help'])\n"
        "except SystemExit:\n    pass"
    )
    assert f"rsna_lumbar.benchmarks.commands.{part}" in loaded
    assert not loaded & {"numpy", "pandas", "onnxruntime", "torch", "ultralytics", "matplotlib"}


def test_a_whole_run_does_without_pandas(tmp_path: Path) -> None:
    """It takes 0.3 s to load; a study is scored in less."""
    loaded = loaded_by(
        "from rsna_lumbar.runtime.cli import main\n"
        f"try:\n    main(['--demo', '--quiet', '--output', {str(tmp_path / 'out.csv')!r}])\n"
        "except SystemExit as end:\n    assert end.code == 0"
    )
    assert {"onnxruntime", "pydicom"} <= loaded
    assert not loaded & {"pandas", "torch", "multiprocessing.pool", "concurrent.futures.process"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ("--help", "--version"))
def test_every_command_answers(command: str, option: str) -> None:
    entry = {e.name: e for e in metadata.entry_points(group="console_scripts")}[command]
    program = f"import {entry.module} as m; m.main(['{option}'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
    if option == "--version":
        assert done.stdout.split() == [command, metadata.version("rsna-lumbar")]


@pytest.mark.parametrize("name", ("phantom", "prepare", "fit", "calibrate", "evaluate"))
@pytest.mark.parametrize("option", ("--help", "--version"))
def test_every_subcommand_answers(name: str, option: str) -> None:
    program = f"from rsna_lumbar.train.cli import main; main(['{name}', '{option}'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("area", "words", "extra"),
    [
        ("benchmarks", [], "bench"),
        ("export", ["b", "--spinal", "s", "--foraminal", "f", "--subarticular", "u"], "export"),
    ],
)
def test_a_missing_extra_is_one_line(area: str, words: list[str], extra: str) -> None:
    program = (
        f"import sys; sys.modules['torch'] = None\n"
        f"from rsna_lumbar.{area}.cli import main; main({words})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"Error: torch is not installed: pip install 'rsna-lumbar[{extra}]'\n"


def test_public_names_exist_and_are_sorted() -> None:
    import rsna_lumbar.runtime as runtime

    assert set(runtime.__all__) == set(runtime._MODULE_OF)
    assert all(getattr(runtime, name) is not None for name in runtime.__all__)

"""The words: documents run, link to what is there, and speak of the product only."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest

import resolute
from resolute.cli import main as cli
from resolute.core.config import attribute_texts, walk
from resolute.evaluation.protocol import Protocol
from resolute.methods.variants import VARIANTS
from resolute.recipes.catalogue import find_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(resolute.__path__, "resolute.")
    if "__main__" not in m.name
)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for block in blocks(page, "python"):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), 0)
            assert doctest.DocTestRunner().run(test).failed == 0
        else:
            exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), target


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text))


@cache
def settings():
    """Every setting as an option: of any method's recipe and, for feature files, of a protocol."""
    recipes = [find_recipe(method, "mlr-viper") for method in VARIANTS]
    paths = {path for recipe in recipes for path, _ in walk(recipe)}
    return {f"--{path}" for path in paths} | {f"--protocol.{f.name}" for f in fields(Protocol)}


@cache
def options_of(verb):
    """The options in a verb's help; where these name a setting, all settings too."""
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
    options = options_in(told.getvalue())
    return options | settings() if any("." in option for option in options) else options


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_use_verbs_and_options_that_exist(page):
    text = page.read_text().replace("\\\n", " ")
    # In blocks and in the text alike; `import resolute as` is Python.
    commands = re.findall(r"(?<!import )(?<!\w)resolute ([a-z]+)([^`#;&|\n]*)", text)
    for verb, words in commands:
        assert verb in cli.VERBS, verb
        assert options_in(words) <= options_of(verb), verb
    # Options that the text speaks of are of some verb, but for those of other programs.
    own = re.sub(r"python (?:benchmarks|scripts)/[^`\n]*|torchrun .* -m ", "", text)
    assert options_in(own) <= set().union(*map(options_of, cli.VERBS))


@pytest.mark.parametrize("name", MODULES)
def test_attributes_in_docstrings_are_the_fields(name):
    module = importlib.import_module(name)
    for _, cls in inspect.getmembers(module, inspect.isclass):
        private = cls.__name__.startswith("_")
        if (
            cls.__module__ != name
            or not is_dataclass(cls)
            or private
            or "Config" not in cls.__name__
        ):
            continue
        assert list(attribute_texts(cls)) == [f.name for f in fields(cls)], cls


def test_every_module_imports_with_the_core_dependencies_alone():
    optional = (
        "h5py scipy tensorboard matplotlib hypothesis pytest pyarrow onnx onnxruntime openvino "
        "fastapi starlette uvicorn prometheus_client qdrant_client faiss ray httpx playwright"
    )
    code = (
        "import sys, importlib\n"
        f"for name in {optional.split()!r}: sys.modules[name] = None\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_core_evaluation_and_retrieval_need_numpy_only():
    exceptions = {"core.images", "core.tensorfile", "retrieval.thumbnails"}
    names = [
        name
        for name in MODULES
        if name.split(".")[1] in ("core", "evaluation", "retrieval")
        and name.removeprefix("resolute.") not in exceptions
    ]
    code = (
        "import sys, importlib\n"
        "for name in 'torch torchvision PIL safetensors rich'.split(): sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist_and_are_few():
    # Two more than the guide aims at: a gallery is of no use without what goes into it.
    assert len(resolute.__all__) <= 17
    for name in resolute.__all__:
        assert getattr(resolute, name) is not None
    assert set(resolute.__all__) <= set(dir(resolute))
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = resolute.embedd


def test_every_source_tag_is_listed():
    listed = (ROOT / "docs" / "sources.md").read_text()
    known = set(re.findall(r"\| \[([^\]]+)\] \|", listed))
    missing = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for tag in re.findall(r"\[([A-Z][A-Za-z-]+ (?:19|20)\d\d)\]", path.read_text()):
            if tag not in known:
                missing[tag] = path.name
    assert missing == {}


def test_nothing_speaks_of_this_workplace():
    words = re.compile(r"/work/|/tmp/work|design\.md|literature\.md|conventions\.md|ecosystem\.md")
    for path in sorted((ROOT / "src").rglob("*.py")) + PAGES:
        assert not words.search(path.read_text()), path


def test_library_raises_no_bare_asserts():
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path

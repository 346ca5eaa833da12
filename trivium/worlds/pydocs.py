"""Real English without a network: the documentation that every Python installation carries.

The sources of the standard library are parsed, never imported: its modules may open windows, or a browser.
"""

import ast
import builtins
import inspect
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from trivium.errors import DataError
from trivium.records import Document

TITLE = f"documentation of Python {platform.python_version()}"  # which decides the texts
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
TOPICS = Path("pydoc_data", "topics.py")  # the reference manual, as one dictionary
FEWEST_WORDS = 12  # of a document: what says less is no text
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_SPHINX = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")  # :func:`len`, :ref:`how <label>`
_UNDERLINES = re.compile(r"^[ \t]*([=*~^#\"+-])\1{3,}[ \t]*$\n?", re.MULTILINE)
_EXAMPLES = re.compile(r"^[ \t]*(?:>>>|\.\.\. ).*$\n?", re.MULTILINE)
_BLANKS = re.compile(r"\n{3,}")


def documents() -> Iterator[Document]:
    """The manual's topics, then each module's documentation with that of its classes and functions, by name.

    raises  DataError when this Python came without its sources
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(_sources(library)) if library.is_dir() else []
    if not files:
        raise DataError(f"pydocs: {library} holds no sources; name texts of your own, or install all of Python")
    yield from _topics(library / TOPICS)
    for file in files:
        yield from _of_module(file, file.relative_to(library))
    yield from _of_builtins()


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in LEFT_OUT:
            yield from _sources(path)
        elif path.suffix == ".py":
            yield path


def _topics(file: Path) -> Iterator[Document]:
    """The one dictionary of the file, read as a literal."""
    tree = _parsed(file) if file.is_file() else ast.Module([], [])
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(statement.value)
            for name in sorted(topics):
                yield from _worth(topics[name], f"pydocs:{name}")


def _of_module(file: Path, place: Path) -> Iterator[Document]:
    """What a module says of itself, and of each of its classes with their methods and functions."""
    name = ".".join(part for part in place.with_suffix("").parts if part != "__init__")
    tree = _parsed(file)
    yield from _worth(_said(tree), f"pydocs:{name}")
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _worth("\n\n".join(_with_inner(node, node.name)), f"pydocs:{name}.{node.name}")


def _with_inner(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[str]:
    """A class or function with what it says, then its methods."""
    if said := _said(node):
        yield f"{_head(node, name)}\n\n{said}"
    for inner in node.body:
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _with_inner(inner, f"{name}.{inner.name}")


def _head(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    return name if isinstance(node, ast.ClassDef) else f"{name}({ast.unparse(node.args)})"


def _said(node: Documented) -> str:
    return ast.get_docstring(node) or ""


def _parsed(file: Path) -> ast.Module:
    """A file that is not Python, as a library's template may be, says nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in old strings
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ast.Module([], [])


def _of_builtins() -> Iterator[Document]:
    """What is written in C and there in every process: each object with its own methods."""
    for name, found in sorted(vars(builtins).items()):
        own = vars(found) if isinstance(found, type) else {}
        texts = [(name, found), *((f"{name}.{inner}", own[inner]) for inner in sorted(own))]
        told = [(title, getattr(each, "__doc__", None)) for title, each in texts]
        parts = [f"{title}\n\n{inspect.cleandoc(said)}" for title, said in told if isinstance(said, str)]
        yield from _worth("\n\n".join(parts), f"pydocs:{name}")


def _worth(text: str, source: str) -> list[Document]:
    """The text without markup and examples of code; nothing when hardly a word is left."""
    text = _SPHINX.sub(r"\1", text.expandtabs())
    text = _UNDERLINES.sub("", _EXAMPLES.sub("", text))
    text = _BLANKS.sub("\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip()
    return [Document(text + "\n", source)] if len(text.split()) >= FEWEST_WORDS else []

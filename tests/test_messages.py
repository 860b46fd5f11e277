"""Messages shorten what they quote: a text, key or number that somebody gave may have a million characters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from rife.timeline.numbers import first_line, shortened

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "rife").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")])
# What holds, by its name, what came from outside.
GIVEN = {"key", "line", "text", "value", "word"}


def quoted_whole(source: str) -> Iterator[str]:
    """What messages of errors quote with !r, or by a name of `GIVEN`, without `shortened`."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.Raise) or function.exc is None:
            continue
        for part in ast.walk(function.exc):
            if not isinstance(part, ast.FormattedValue) or "__name__" in ast.unparse(function.exc):
                continue
            if part.conversion == ord("r") or (isinstance(part.value, ast.Name) and part.value.id in GIVEN):
                yield f"line {part.lineno}: {ast.unparse(part.value)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_errors_quote_through_the_one_function_that_shortens(path):
    assert list(quoted_whole(path.read_text(encoding="utf-8"))) == []


def test_the_search_finds_what_it_looks_for():
    assert list(quoted_whole("def f(a, text):\n    raise ValueError(f'{a!r} {text} {shortened(text)}')")) == [
        "line 2: a", "line 2: text",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, [10**5000], Fraction(10**5000, 3), ["x" * 10**6], ["x" * 10**6] * 9, {"a": "x" * 10**6},
     ["x"] * 10**6, b"x" * 10**6, "\x1b" * 100, list(range(10**6)), {i: i for i in range(1000)}, Fraction(1, 10**70)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_shortened_is_short_and_has_no_control_characters(value):
    assert len(shortened(value)) < 1300 and shortened(value).isprintable()


def test_of_other_errors_the_first_line_is_told_shortened():
    assert first_line(ValueError("x" * 10**6 + "\n2")) == "x" * 200 and first_line(ValueError("")) == ""

"""Options of the command with values that they are not made for: `benchmarks/odd_options.py` in short."""

from __future__ import annotations

import sys

import pytest
from odd_options import CHOICES, Odd, command_lines, ended, furnish

from rife.cli import app
from rife.cli.values import Parser, brief, number, whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "sound"
    furnish(path)
    return path


# Kinds that the whole table found: errors of Python's and PyTorch's, messages of thousands of characters.
FOUND = [
    "train --rest=nan", "train --learning-rate=inf", "train --batch=0", "train --steps=-1", "train --threads=-1",
    "train --log-every=0", "train --crop=0", "train --device=x", "train --max-frames=0", "train --warm-up=1e99",
    "interpolate --device=x", "interpolate --device=meta", "interpolate --batch-size=-1", "interpolate --shutter=nan",
    "interpolate --multi=0", "join --fade=-1", "join --overlap=-1", "score --max-frames=-1", "score --true-frames=-1",
    "score --max-width=1",
    "export --opset=99999999999", "export --scale=nan", "interpolate --pix-fmt=x", "join --codec=x",
    "interpolate --preset=caf\udce9", "interpolate --encoder-option=caf\udce9",
]  # fmt: skip


@pytest.mark.parametrize("line", FOUND)
def test_numbers_out_of_range_are_refused_in_words(folder, line):
    command, option = line.split()
    name, value = option.split("=")
    words = next(odd.words for odd in command_lines() if (odd.command, odd.option) == (command, name))
    end = ended(Odd(command, name, value, [*words[:-1], option]), folder)
    assert end.fault == "" and end.what in ("refused", "an error")


@pytest.mark.parametrize("path", ["", ".", "missing/it", "folder", "x" * 300, "x/" * 3000])
@pytest.mark.parametrize(
    "words", ["convert small.safetensors", "join in.mkv next.mkv out.mp4 --codec mpeg4 --report"]
)
def test_outputs_that_are_no_files_are_refused_in_words(folder, words, path):
    end = ended(Odd(words.split()[0], "", path, [*words.split(), path]), folder)
    assert end.fault == ""


def test_a_sample_of_all_odd_command_lines_ends_in_words(folder):
    lines = [odd for odd in command_lines() if odd.command not in ("demo", "export", "train")]
    assert len(lines) > 1000
    faults = [(odd[:3], end) for odd in lines[::37] if (end := ended(odd, folder)).fault]
    assert not faults


@pytest.mark.parametrize("value", ["x" * 10**5, "\x1b[31m" + "x" * 1000, "../" * 3000])
@pytest.mark.parametrize(
    "option", ["--variant", "--multi", "--fps", "--model", "--unknown", "--device", "--codec"]
)
def test_long_words_are_not_quoted_whole(folder, option, value):
    odd = Odd(
        "interpolate",
        option,
        value,
        ["interpolate", "in.mkv", "out.mp4", "--device", "cpu", f"{option}={value}"],
    )
    assert ended(odd, folder).fault == ""


def test_a_number_of_an_option_has_a_range_and_no_more_than_two_digits_of_exponent():
    assert whole(0, 10)("7") == 7 and whole(0, 1000)("1e2") == 100 and whole(0, 5, "auto")("auto") is None
    assert number(0, 1)("1/4") == 0.25 and number(0, 1, "auto")("auto") == "auto"
    for read in (whole(0, 10), number(0, 10)):
        for text in ("", "x", "11", "-1", "nan", "inf", "1e100", "9" * 5000, "1/0", "1_0", "auto"):
            with pytest.raises(
                app.argparse.ArgumentTypeError, match="is not a .*number from 0 to 10$"
            ) as caught:
                read(text)
            assert len(str(caught.value)) < 200
    with pytest.raises(app.argparse.ArgumentTypeError):
        whole(0, 10)("1.5")


def test_every_number_of_every_command_has_a_range():
    """argparse's int and float take NaN, infinity, and numbers of any length."""
    (commands,) = (a for a in app.make_parser()._actions if isinstance(a, app.argparse._SubParsersAction))
    for command, parser in commands.choices.items():
        assert isinstance(parser, Parser)
        for action in parser._actions:
            assert action.type not in (int, float, complex), (command, action.dest)


def test_what_is_brief_keeps_what_is_not_long():
    path = "folder/" * 20 + "file.mp4"
    assert brief(f"no {path}", ["interpolate", path]) == f"no {path}"
    long = "x" * 5000
    assert len(brief(f"no {long!r} and {long}", [f"--model={long}"])) < 300
    assert len(brief("y" * 10**6, CHOICES)) < 2100
    assert brief("a\x1b[31m\udce9\r\nb\u7a7a", []) == "a\\x1b[31m\\udce9\\r\nb\u7a7a"

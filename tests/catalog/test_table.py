"""The table of downloads, and the command over it."""

from __future__ import annotations

import json
from pathlib import Path

import golden_recipe as golden
import pytest
import torch
from downloads import QUICK, only_the_file, refused
from web import fail, serve

from rife.checkpoint import catalog
from rife.checkpoint.catalog import DOWNLOADS, DownloadError, download, find, sources
from rife.cli import app as cli
from rife.cli import checkpoints
from rife.networks.config import RELEASES

ROOT = Path(__file__).resolve().parents[2]


# the table


def test_the_table_holds_what_can_be_used():
    assert len(DOWNLOADS) == len(catalog._ROWS)
    assert len({row.file for row in DOWNLOADS.values()}) == len(DOWNLOADS)
    assert len({url for row in DOWNLOADS.values() for url in row.urls}) == sum(
        len(row.urls) for row in DOWNLOADS.values()
    )
    for name, row in DOWNLOADS.items():
        assert row.version in RELEASES and name.startswith(row.version)
        assert row.file.endswith((".pkl", ".safetensors")) and "/" not in row.file
        assert row.sha256 == "" or len(bytes.fromhex(row.sha256)) == 32
        assert all(url.startswith("https://") for url in row.urls) and row.licence
        # What its tensors are taken for, or a loader would run another version under this name.
        assert row.version != "3.8"
    single = {version for version in RELEASES if version[0] in "34"} - {"3.8", "3.9"}
    assert single == {row.version for row in DOWNLOADS.values()}


def test_an_endpoint_takes_the_place_of_the_hub(monkeypatch):
    assert [url.split("/")[2] for url in sources(DOWNLOADS["4.25"])] == ["huggingface.co", "hf-mirror.com"]
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.lan/hf/")
    (url,) = sources(DOWNLOADS["4.25"])
    assert url.startswith("http://mirror.lan/hf/Comfy-Org/frame_interpolation/resolve/main/")
    assert sources(DOWNLOADS["4.7"]) == DOWNLOADS["4.7"].urls
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com")
    assert {url.split("/")[2] for url in sources(DOWNLOADS["4.25"])} == {"hf-mirror.com"}


def test_safetensors_are_proven_as_well(web, tmp_path, monkeypatch):
    from safetensors.torch import save

    monkeypatch.setenv("HF_ENDPOINT", web.url)
    row = DOWNLOADS["4.25.lite"]
    path = row.urls[0].removeprefix("https://huggingface.co")
    data = save(
        {k: torch.zeros(shape, dtype=torch.float16) for k, shape in golden.shapes("4.25.lite").items()}
    )
    web.files[path] = data
    web.script = [serve(cut=len(data) // 2)]
    assert download(row, tmp_path, patience=QUICK).read_bytes() == data
    web.files[path] = save({"a": torch.zeros(1)})
    with pytest.raises(DownloadError, match="not a RIFE"):
        download(row, tmp_path / "other", patience=QUICK)


# the command line


@pytest.fixture
def on_offer(entry, monkeypatch):
    monkeypatch.setitem(DOWNLOADS, "4.15.lite", entry)
    return entry


def test_the_list_says_what_there_is_and_what_is_here(on_offer, web, tmp_path, capsys):
    (tmp_path / on_offer.file).write_bytes(b"x" * 2_500_000)
    assert cli.main(["download", "--to", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (mine,) = (line.split() for line in lines if line.startswith("4.15.lite"))
    assert mine == ["4.15.lite", "4.15.lite", "2.5", "MB", "MIT", "yes"]
    assert len(lines) == 1 + len(DOWNLOADS) and not web.requests
    assert any(line.split()[:6] == ["4.26", "4.26", "22.7", "MB", "MIT", "no"] for line in lines)


def test_the_command_brings_a_file_and_prints_where_it_is(on_offer, right, tmp_path, capsys):
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / on_offer.file)
    assert only_the_file(tmp_path, right)


def test_the_command_reports_errors_in_one_line(on_offer, web, tmp_path, capsys, monkeypatch):
    assert cli.main(["download", "4.15.light", "--to", str(tmp_path)]) == 1
    assert "4.15.lite" in capsys.readouterr().err
    with pytest.raises(ValueError, match="such as 4.25"):
        find("???")
    web.script = [fail(404)]
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "404" in error and "Traceback" not in error
    monkeypatch.setattr(checkpoints, "download", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["download", "4.15.lite", "--to", str(tmp_path)]) == 130


def test_notes_beside_a_part_are_json(entry, web, tmp_path):
    web.script = [serve(cut=5000), *[fail(503)] * 2]
    refused(entry, tmp_path, "503")
    note = json.loads((tmp_path / (entry.file + ".part.json")).read_text())
    assert note["url"] == entry.urls[0] and note["total"]


def test_a_file_that_is_only_named_right_is_refused(web, tmp_path, monkeypatch):
    """Names and shapes are not enough: it has to load, and to give a frame."""
    from safetensors.torch import save

    monkeypatch.setenv("HF_ENDPOINT", web.url)
    row = DOWNLOADS["4.25.lite"]
    shapes = golden.shapes("4.25.lite").items()
    web.files[row.urls[0].removeprefix("https://huggingface.co")] = save(
        {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in shapes}
    )
    with pytest.raises(DownloadError, match="is torch.uint8"):
        download(row, tmp_path, patience=QUICK)

"""Checkpoints that the loader fetches."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace

import fake_comfyui as stand_in
import golden_recipe as golden
import pytest
from node_clips import on_disk
from web import Web, fail, serve


@pytest.fixture
def web(host, monkeypatch):
    """A server with RIFE 4.15.lite, which the catalogue of this host then has from there."""
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Web().running() as running:
        running.files["/flownet.pkl"] = golden.release_file("4.15.lite")
        catalog = sys.modules[f"{stand_in.PACK}.rife.checkpoint.catalog"]
        urls = (running.url + "/flownet.pkl",)
        row = replace(catalog.DOWNLOADS["4.15.lite"], urls=urls)
        monkeypatch.setitem(catalog.DOWNLOADS, "4.15.lite", row)
        yield running


CHOICE = "4.15.lite (download)"
FILE = "flownet_v4.15.lite.pkl"


def choices(host):
    return host.nodes["RIFECheckpointLoader"].define_schema().inputs[0].options["options"]


def test_downloads_stand_after_the_files_and_are_offered_while_they_are_not_there(host, web):
    offered = choices(host)
    first = next(i for i, option in enumerate(offered) if option.endswith(" (download)"))
    assert offered[:first] == on_disk(host) and CHOICE in offered[first:]
    assert all(option.endswith(" (download)") for option in offered[first:])
    (host.models_dir / "rife" / "sub").mkdir()
    (host.models_dir / "rife" / "sub" / FILE).write_bytes(web.files["/flownet.pkl"])
    assert CHOICE not in choices(host) and os.path.join("sub", FILE) in choices(host)
    assert host.run("RIFECheckpointLoader", checkpoint=CHOICE)[0].model.config.versions[0] == "4.15.lite"
    assert not web.requests


def test_a_choice_is_downloaded_once_and_keeps_its_name(host, web):
    loader = host.nodes["RIFECheckpointLoader"]
    before = loader.fingerprint_inputs(CHOICE)
    assert loader.validate_inputs(CHOICE) is True and not web.requests
    (patcher,) = host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert "4.15.lite" in patcher.model.config.versions
    size = len(web.files["/flownet.pkl"])
    assert host.progress[-1][:2] == (size, size)
    path = host.models_dir / "frame_interpolation" / FILE
    assert path.read_bytes() == web.files["/flownet.pkl"] and FILE in on_disk(host)
    # What came after the loader is not run again, until the file is another one.
    assert loader.fingerprint_inputs(CHOICE) == before
    assert loader.validate_inputs(CHOICE) is True and loader.validate_inputs(FILE) is True
    for name in (CHOICE, FILE):
        host.run("RIFECheckpointLoader", checkpoint=name)
    factory, arguments = patcher.cached_patcher_init
    assert factory(*arguments).model is not patcher.model
    assert len(web.requests) == 1
    os.utime(path, ns=(1, 1))
    assert loader.fingerprint_inputs(CHOICE) != before


def test_names_that_mean_nothing_do_not_validate_and_the_message_offers_the_download(host, web):
    validate = host.nodes["RIFECheckpointLoader"].validate_inputs
    assert validate("rife_comfy (bundled)") is True and validate("small.safetensors") is True
    assert validate() is True and validate(None) is True  # linked
    assert host.nodes["RIFECheckpointLoader"].fingerprint_inputs(None) == "linked"
    assert "choose '4.15.lite (download)'" in validate(FILE)
    assert "models/frame_interpolation" in validate("absent.safetensors")
    for name in ("5.0 (download)", "4.15.lite", "../small.safetensors"):
        assert "There is no checkpoint" in validate(name)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("flownet.onnx", b"\x08\x07\x12\x07pytorch", "flownet.onnx is an ONNX graph.*rife download"),
        ("flownet.param", b"7767517\n3 3\n", "flownet.param is the graph of an ncnn model.*rife download"),
        ("4.26.engine", b"ftrt" + bytes(60), "4.26.engine is a TensorRT engine.*rife download"),
        ("rife.mlmodel", b"\x08\x04" + bytes(20), "rife.mlmodel is a CoreML model.*rife download"),
        ("notes.txt", b"nothing", "^notes.txt "),
        ("flownet.weights", golden.release_file("4.15.lite"), "flownet.weights is a RIFE.*Rename it"),
    ],
)
def test_a_file_that_comfyui_does_not_list_is_called_what_it_is(host, name, content, said):
    """It lay there, and the message said to put it there."""
    (host.models_dir / "rife" / name).write_bytes(content)
    assert name not in choices(host)
    found = host.nodes["RIFECheckpointLoader"].validate_inputs(name)
    assert re.search(said, found) and str(host.models_dir) not in found
    with pytest.raises(FileNotFoundError, match=said.removeprefix("^")):
        host.run("RIFECheckpointLoader", checkpoint=name)


def test_a_file_that_is_not_there_is_not_downloaded_unasked(host, web):
    with pytest.raises(FileNotFoundError, match="choose '4.15.lite"):
        host.run("RIFECheckpointLoader", checkpoint=FILE)
    assert not web.requests


def test_a_download_can_be_cancelled_and_goes_on_the_next_time(host, web):
    web.script = [serve(hang=5000)]
    host.cancel_after = 3
    with pytest.raises(stand_in.InterruptProcessingException):
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert CHOICE in choices(host)
    host.cancel_after = None
    assert host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert web.headers("Range") == [None, "bytes=5000-"]
    assert FILE in choices(host) and not list(host.models_dir.rglob("*.part*"))


def test_the_first_folder_that_can_be_written_to_is_taken(host, web, monkeypatch):
    paths = host.modules["folder_paths"].folder_names_and_paths["frame_interpolation"][0]
    locked, new = host.models_dir / "locked", host.models_dir / "new" / "folder"
    locked.mkdir()
    paths[:] = [str(locked), str(new)]
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert (new / FILE).exists() and not list(locked.iterdir())


def test_a_download_that_fails_says_where_to_put_the_file(host, web, monkeypatch):
    path = str(host.models_dir / "frame_interpolation" / FILE)
    web.script = [fail(404)]
    with pytest.raises(RuntimeError, match="404") as error:
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert path in str(error.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RuntimeError, match="HF_HUB_OFFLINE") as error:
        host.run("RIFECheckpointLoader", checkpoint=CHOICE)
    assert path in str(error.value) and len(web.requests) == 1

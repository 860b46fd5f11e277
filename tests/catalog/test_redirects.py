"""Redirects, tokens and archives."""

from __future__ import annotations

import io
import ssl
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from downloads import PATH, fetch, only_the_file, refused
from web import Web, fail, redirect, serve

from rife.checkpoint import catalog
from rife.checkpoint import download as transfer
from rife.checkpoint.download import TransferError

ROOT = Path(__file__).resolve().parents[2]


# redirects and tokens


@pytest.fixture
def elsewhere(right):
    with Web().running() as running:
        running.files["/store"] = right
        yield running


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_goes_along_on_its_host_and_to_no_other(entry, web, elsewhere, tmp_path, monkeypatch, status):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    web.script = [redirect("/moved", status), redirect(elsewhere.url + "/store", status)]
    fetch(entry, tmp_path)
    assert web.headers("Authorization") == ["Bearer secret"] * 2
    assert elsewhere.headers("Authorization") == [None]


def test_an_expired_token_is_left_out_the_second_time(entry, web, right, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "old")
    web.script = [fail(401)]
    assert fetch(entry, tmp_path).read_bytes() == right
    assert web.headers("Authorization") == ["Bearer old", None]
    web.script = [fail(401), fail(401)]
    refused(entry, tmp_path / "again", "HF_TOKEN")


def test_a_resumed_download_asks_the_storage_for_the_rest(entry, web, elsewhere, right, tmp_path):
    elsewhere.script = [serve(cut=5000)]
    web.script = [redirect(elsewhere.url + "/store")] * 2
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right) and elsewhere.headers("Range") == [None, "bytes=5000-"]


def test_no_way_leads_out_of_https_or_to_a_local_file(entry, web, tmp_path):
    secure = urllib.request.Request("https://example.org/a")
    with pytest.raises(TransferError, match="from https to http:"):
        transfer._Redirects().redirect_request(secure, None, 302, "", {}, "http://example.org/a")
    for bad in ("file:///etc/passwd", "ftp://example.org/a"):
        web.script = [redirect(bad)]
        refused(entry, tmp_path, "302|refused")
        refused(entry, tmp_path, "neither http nor https", urls=(bad,))


def test_a_python_without_certificates_is_told_apart_from_a_broken_line(entry, web, tmp_path, monkeypatch):
    class Opener:
        def open(self, request, timeout):
            error = ssl.SSLCertVerificationError(1, "failed")
            error.verify_message = "unable to get local issuer certificate"
            raise urllib.error.URLError(error)

    monkeypatch.setattr(transfer, "_opener", lambda redirects: Opener())
    message = refused(entry, tmp_path, "certificate")
    assert "SSL_CERT_FILE" in message and "in a row" not in message


def test_redirects_in_a_circle_end(entry, web, tmp_path):
    web.script = [redirect(web.url + PATH)] * 50
    refused(entry, tmp_path, "302")


def test_the_token_is_looked_up_where_huggingface_hub_keeps_it(monkeypatch, tmp_path):
    hub = "https://huggingface.co/a/b"
    assert catalog._token(hub) == ""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("stored\n")
    assert catalog._token(hub) == "stored"
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "mine"))
    (tmp_path / "mine").write_text("mine")
    assert catalog._token(hub) == "mine"
    monkeypatch.setenv("HF_TOKEN", " given ")
    assert catalog._token(hub) == "given"
    for other in ("https://hf-mirror.com/a", "https://github.com/a", "https://huggingface.co.evil.org/a"):
        assert catalog._token(other) == ""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert catalog._token(hub) == ""


# archives


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, data in members.items():
            out.writestr(name.replace("__", "/"), data)
    return file.getvalue()


def test_one_file_of_an_archive_is_taken_out(entry, web, right, tmp_path):
    web.files[PATH] = archive(train_log__flownet_pkl=right, train_log__model_py=b"import os")
    web.script = [serve(cut=5000)]
    fetch(entry, tmp_path / "to", member="train_log/flownet_pkl")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-"]


def test_an_archive_without_it_or_with_something_else_is_refused(entry, web, right, tmp_path):
    web.files[PATH] = archive(other=right)
    refused(entry, tmp_path, "expected flownet.pkl in it", member="flownet.pkl")
    web.files[PATH] = right[:9000]
    refused(entry, tmp_path, "archive cannot be used", member="flownet.pkl")
    web.files[PATH] = archive(flownet=b"import os")
    refused(entry, tmp_path, "it cannot be read as plain weights", member="flownet")

"""Downloads, against a server that does all that servers do: the right file in the end, or a clear error."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import golden_recipe as golden
import pytest
import torch
from downloads import PATH, QUICK, fetch, none_of_that_name, only_the_file, refused
from web import Web, etag_of, fail, hang_up, redirect, serve, silence

from rife.checkpoint import catalog
from rife.checkpoint import download as transfer
from rife.checkpoint.catalog import DOWNLOADS, DownloadError, download

ROOT = Path(__file__).resolve().parents[2]


# well


def test_a_file_arrives_and_nothing_else_is_left(entry, web, right, tmp_path):
    seen = []
    folder = tmp_path / "new" / "folder"
    path = download(entry, folder, on_progress=lambda *state: seen.append(state), patience=QUICK)
    assert path == folder / entry.file and only_the_file(folder, right)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(right), len(right))


def test_a_file_that_is_there_is_not_asked_for(entry, web, tmp_path):
    (tmp_path / entry.file).write_bytes(b"mine")
    assert fetch(entry, tmp_path).read_bytes() == b"mine" and not web.requests


def test_without_a_length_the_end_of_the_connection_is_the_end(entry, web, right, tmp_path):
    web.script = [serve(length=None)]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


# lines that break


def test_a_cut_download_goes_on_where_it_ended(entry, web, right, tmp_path):
    web.script = [serve(cut=5000), serve(cut=7000), hang_up]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-", "bytes=12000-", "bytes=12000-"]
    assert web.headers("If-Range")[1:] == [etag_of(right)] * 3


def test_a_stalled_download_goes_on_where_it_ended(entry, web, right, tmp_path):
    web.script = [serve(hang=5000), silence]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range")[1:] == ["bytes=5000-"] * 2


def test_what_a_dead_process_left_is_used(entry, web, right, tmp_path):
    web.script = [serve(cut=5000), *[fail(503)] * 2]
    refused(entry, tmp_path, "503")
    web.requests.clear()
    assert fetch(entry, tmp_path).read_bytes() == right
    assert web.headers("Range") == ["bytes=5000-"]
    assert [path.name for path in tmp_path.iterdir()] == [entry.file]


def test_a_whole_part_only_needs_its_name(entry, web, right, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(catalog.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(entry, tmp_path)
    web.requests.clear()
    assert fetch(entry, tmp_path).read_bytes() == right and not web.requests


@pytest.mark.parametrize(
    "second",
    [
        serve(ranges=False),
        serve(ignore_if_range=True),
        serve(ignore_if_range=True, shift=10),
        serve(ignore_if_range=True, shift=-10),
        serve(ignore_if_range=True, shift=1 << 30),
        serve(ignore_if_range=True, etag=None),
    ],
    ids=["whole", "other file", "later part", "earlier part", "nothing left", "without etag"],
)
@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_changes_between_attempts_is_taken_anew(
    entry, web, right, other, tmp_path, second, changed
):
    assert len(right) == len(other) and right[:5000] != other[:5000] and right[5000:] != other[5000:]
    web.script = [serve(data=other if changed else None, cut=5000), second]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_a_part_is_not_continued_where_nothing_proves_that_it_belongs(entry, web, right, other, tmp_path):
    for first in (serve(data=other, cut=5000, etag=None), serve(data=other, cut=5000, etag='W/"1"')):
        folder = tmp_path / str(len(web.requests))
        web.script = [first]
        fetch(entry, folder)
        assert only_the_file(folder, right) and web.headers("Range")[-1] is None


def test_a_known_sha256_continues_without_an_etag_and_on_another_mirror(entry, web, right, tmp_path):
    digest = hashlib.sha256(right).hexdigest()
    web.files["/mirror"] = right
    web.script = [serve(cut=5000, etag=None), serve(cut=5000, etag=None), fail(404)]
    fetch(entry, tmp_path / "to", sha256=digest, urls=(*entry.urls, web.url + "/mirror"))
    assert only_the_file(tmp_path / "to", right)
    assert web.headers("Range") == [None, "bytes=5000-", "bytes=10000-", "bytes=10000-"]


def test_a_wrong_beginning_is_found_out_and_replaced(entry, web, right, other, tmp_path):
    (tmp_path / (entry.file + ".part")).write_bytes(other[:5000])
    assert fetch(entry, tmp_path, sha256=hashlib.sha256(right).hexdigest()).read_bytes() == right
    assert web.headers("Range") == ["bytes=5000-", None]


@pytest.mark.parametrize(
    "note", [b"", b"[]", b'{"url": 1}', b'{"url":1,"etag":2,"total":"a","sha256":3}', b"\xff"]
)
def test_a_damaged_note_only_costs_the_beginning(entry, web, right, tmp_path, note):
    (tmp_path / (entry.file + ".part")).write_bytes(b"x" * 5000)
    (tmp_path / (entry.file + ".part.json")).write_bytes(note)
    assert fetch(entry, tmp_path).read_bytes() == right


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_servers_that_are_busy_are_asked_again(entry, web, right, tmp_path, status):
    web.script = [fail(status, Retry_After=0), fail(status, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_a_server_that_stays_silent_is_left(entry, web, tmp_path):
    web.script = [silence] * 3
    assert "nothing came" in refused(entry, tmp_path, "3 times in a row")


def test_a_server_that_always_breaks_off_is_left(entry, web, tmp_path):
    web.script = [serve(cut=100, ranges=False)] * 100
    refused(entry, tmp_path, "ended after 100 of")
    web.script = [serve(cut=10)] * 100
    refused(entry, tmp_path, "broke too often")


# mirrors


@pytest.mark.parametrize(
    "bad", [fail(404), fail(403), fail(410), serve(data=b"<html>"), serve(data=b"x" * 9000)]
)
def test_the_next_mirror_is_asked(entry, web, right, tmp_path, bad):
    web.script = [bad]
    web.files["/mirror"] = right
    fetch(entry, tmp_path / "to", urls=(web.url + "/gone", web.url + "/mirror"))
    assert only_the_file(tmp_path / "to", right)


def test_no_mirror_left_says_what_each_answered_and_how_to_help_oneself(entry, web, tmp_path):
    web.script = [fail(403), fail(404)]
    urls = (web.url + "/a", "http://127.0.0.1:1/b", web.url + "/c")
    message = refused(entry, tmp_path, "could not be downloaded", urls=urls)
    for part in (
        "/a: ",
        "403",
        "no connection",
        "404",
        "HF_TOKEN",
        "in a browser",
        str(tmp_path / entry.file),
    ):
        assert part in message


def test_the_same_version_from_elsewhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="from elsewhere: 4.25-github"):
        download(DOWNLOADS["4.25"], tmp_path)


# wrong files


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve(data=b"<!DOCTYPE html><p>Sign in"), "web page"),
        (serve(Content_Type="text/html; charset=utf-8"), "web page"),
        (serve(data=b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "Git LFS pointer"),
        (serve(data=b"weights " * 4000), "it cannot be read as plain weights"),
        (serve(data=b""), "it is empty"),
        (serve(Content_Encoding="gzip"), "packed"),
        (serve(status=203), "203"),
        (serve(length=9000), "it cannot be read as plain weights"),
    ],
    ids=["page", "page by type", "pointer", "junk", "empty", "packed", "odd status", "shorter length"],
)
def test_what_is_not_the_file_never_gets_its_name(entry, web, tmp_path, answer, reason):
    web.script = [answer]
    refused(entry, tmp_path, reason)


def test_a_length_that_never_comes_is_an_error(entry, web, right, tmp_path):
    web.script = [serve(length=len(right) + 500, ranges=False)] * 9
    refused(entry, tmp_path, "ended after")


def test_an_answer_without_end_is_ended(entry, web, right, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_LIMIT", 1000)
    web.script = [serve(length=None)]
    refused(entry, tmp_path, "does not end")


def test_another_version_another_network_and_code_are_refused(entry, web, tmp_path):
    web.files[PATH] = golden.release_file("4.22.lite")
    refused(entry, tmp_path, "it is RIFE 4.22.lite")
    file = io.BytesIO()
    torch.save({"conv.weight": torch.zeros(3)}, file)
    web.files[PATH] = file.getvalue()
    refused(entry, tmp_path, "not a RIFE network")
    file = io.BytesIO()
    torch.save({"conv.weight": Path}, file)
    web.files[PATH] = file.getvalue()
    refused(entry, tmp_path, "it would call pathlib")
    assert not list(tmp_path.glob("*.part*"))


def test_known_size_and_sha256_are_held(entry, web, right, tmp_path):
    refused(entry, tmp_path, f"{len(right):,} bytes, expected {len(right) + 1:,}", size=len(right) + 1)
    web.script = [serve(length=None)]
    refused(entry, tmp_path, "expected 1,000,000", size=1_000_000)
    refused(entry, tmp_path, "sha256", sha256="0" * 64)
    assert fetch(entry, tmp_path, size=len(right), sha256=hashlib.sha256(right).hexdigest().upper())


def test_the_digest_that_a_hub_names_is_held(entry, web, right, other, tmp_path):
    digest = hashlib.sha256(right).hexdigest()
    web.files["/store"] = other
    web.script = [redirect(web.url + "/store", X_Linked_ETag=f'"{digest}"')]
    refused(entry, tmp_path, f"expected {digest}")
    web.files["/store"] = right
    web.script = [redirect(web.url + "/store", X_Linked_ETag=f'"{digest}"')]
    assert fetch(entry, tmp_path).read_bytes() == right


def test_the_digest_that_a_hub_named_once_is_remembered(entry, web, right, other, tmp_path):
    web.files["/store"] = right
    named = redirect(web.url + "/store", X_Linked_ETag=f'"{hashlib.sha256(right).hexdigest()}"')
    plain = redirect(web.url + "/store")
    web.script = [named, serve(cut=5000), plain, serve(data=other, ignore_if_range=True, etag=None), plain]
    fetch(entry, tmp_path / "to")
    assert only_the_file(tmp_path / "to", right)


def test_whatever_a_server_does_the_file_is_right_or_there_is_none(entry, web, right, other, tmp_path):
    """60 servers at random."""
    chance = random.Random(5)
    arrived = 0
    for i in range(60):
        web.script = [_mischief(chance, right, other, web) for _ in range(chance.randint(1, 5))]
        folder = tmp_path / str(i)
        for _ in range(2):  # a second run meets what the first one left
            try:
                path = fetch(entry, folder)
            except DownloadError:
                assert none_of_that_name(folder, entry)
                continue
            # Whole files of the server's are right; a mixture of two never is.
            assert path.read_bytes() in (right, other) and only_the_file(folder, path.read_bytes())
            arrived += 1
            break
    assert 20 < arrived < 60


def _mischief(chance: random.Random, right: bytes, other: bytes, web: Web):
    data = chance.choice((right, right, right, other))
    cut = chance.randrange(len(right))
    return chance.choice(
        [
            serve(data=data),
            serve(data=data, cut=cut),
            serve(data=data, cut=cut, ignore_if_range=True),
            serve(data=data, cut=cut, etag=None),
            serve(data=data, cut=cut, etag=None, ignore_if_range=True),
            serve(data=data, ranges=False, cut=cut),
            serve(data=data, ignore_if_range=True, shift=chance.randint(-50, 50)),
            serve(data=data, length=cut),
            serve(data=data, length=None, cut=cut),
            serve(data=data[:cut]),
            fail(chance.choice((404, 416, 429, 500, 503))),
            redirect(web.url + PATH),
            redirect(web.url + "/nowhere"),
            hang_up,
        ]
    )

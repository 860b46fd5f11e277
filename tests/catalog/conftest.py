"""A server with one right file, and nothing of this machine's settings."""

from __future__ import annotations

from pathlib import Path

import golden_recipe as golden
import pytest
from downloads import PATH, transfer_settings
from web import Web

from rife.checkpoint.catalog import Download

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def right():
    return golden.release_file("4.15.lite")


@pytest.fixture(scope="session")
def other():
    """Same length, same shapes, other weights."""
    return golden.release_file("4.15.lite", 1.0)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    """Nothing of the machine that runs this: no proxy, token, mirror, or offline mode."""
    for name in (*transfer_settings(), "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def web(right):
    with Web().running() as running:
        running.files[PATH] = right
        yield running


@pytest.fixture
def entry(web):
    return Download("4.15.lite", "4.15.lite", (web.url + PATH,), "flownet_v4.15.lite.pkl")

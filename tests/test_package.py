"""What is published: the wheel holds the core with its weights, the sdist the project, the registry gets the pack."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from importlib import metadata

import fake_comfyui as stand_in
import pytest

ROOT = stand_in.ROOT
# What a checkout holds that belongs to nobody else.
LOCAL = (
    ".git",
    ".venv",
    ".*_cache",
    "__pycache__",
    "build",
    "dist",
    "*.egg-info",
    "screenshots",
    "rife_demo",
)
SDIST = (
    "__init__.py nodes/__init__.py rife/model/model.py rife/weights/rife_comfy.safetensors web/docs/RIFEInterpolate.md "
    "locales/zh/nodeDefs.json docs/pictures/before_after.webp tests/test_package.py tools/workflows.py "
    "benchmarks/bundled_checkpoint.csv README.md LICENSE NOTICE CHANGELOG.md"
).split() + [
    f"example_workflows/Interpolate a video 2x (RIFE frame interpolation).{kind}" for kind in ("json", "jpg")
]
REGISTRY = [name for name in SDIST if not name.startswith(("tests/", "tools/", "benchmarks/"))]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist of this checkout."""
    version = int(metadata.version("setuptools").split(".")[0]) if installed("setuptools") else 0
    if version < 77:
        reason = (
            f"Not built: setuptools {version or 'missing'}, expected 77 or newer (pip install -U setuptools)"
        )
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "project", ignore=shutil.ignore_patterns(*LOCAL), symlinks=True)
    script = "from setuptools.build_meta import *; build_sdist('dist'); build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder / "project", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "project" / "dist"


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_the_wheel_holds_the_core_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert all(re.match(r"rife/|rife_interpolation-[\d.]+\.dist-info/", name) for name in names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rife").rglob("*.py")}
    data = {"rife/weights/rife_comfy.safetensors", "rife/cli/demo_clip.mp4"}
    assert sources | data == {n for n in names if n.startswith("rife/")}


def test_the_sdist_holds_the_project_and_nothing_else(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames() if not name.endswith("/")}
    assert set(SDIST) <= names, set(SDIST) - names
    tracked = set(git_files())
    extra = {name for name in names - tracked if "." in name.rsplit("/", 1)[-1]}
    assert not {n for n in extra if not re.match(r"PKG-INFO|setup\.cfg|.*\.egg-info", n)}, extra


def git_files() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: what is tracked is not known")
    return [name for name in done.stdout.split("\0") if name]


def test_the_registry_gets_the_pack_without_its_workshop():
    ignored = [line for line in (ROOT / ".comfyignore").read_text().splitlines() if line and line[0] != "#"]
    sent = [
        name
        for name in git_files()
        if not any(
            name.startswith(rule) if rule.endswith("/") else fnmatch.fnmatch(name, rule) for rule in ignored
        )
    ]
    assert set(REGISTRY) <= set(sent), set(REGISTRY) - set(sent)
    workshop = ("tests/", "tools/", "benchmarks/", ".ci/", ".github/")
    assert not [name for name in sent if name.startswith(workshop)]
    assert sum((ROOT / name).stat().st_size for name in sent) < 20e6


def test_the_registry_can_read_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (name,) = re.findall(r'^name = "(.*)"', text, re.M)
    assert "comfyui" not in name.lower() and re.fullmatch(r"[a-z][\w.-]{1,99}", name)
    for field in ("PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"):
        assert re.search(rf'^{field} = ".+"', text, re.M), field
    # Dynamic versions are read from the file that is named here, by a pattern.
    assert '[tool.comfy.version]\npath = "rife/version.py"' in text
    assert re.search(r'^__version__\s*=\s*"\d+\.\d+\.\d+"', (ROOT / "rife" / "version.py").read_text(), re.M)
    # comfy node validate wants three parts.
    assert re.search(r'"comfyui-frontend-package>=\d+\.\d+\.\d+"', text)
    for picture in re.findall(r"main/(docs/pictures/\S+)\"", text):
        assert (ROOT / picture).is_file(), picture


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_of_the_documentation_leads_somewhere(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for target, _, heading in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]*))?\)", text):
        page = (ROOT / path).parent / target if target else ROOT / path
        assert page.exists(), (path, target)
        if heading:
            titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}, (
                path,
                heading,
            )

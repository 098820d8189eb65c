import atexit
import base64
import importlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata, util
from pathlib import Path

NEEDED = {"torch": "torch", "einops": "einops", "safetensors": "safetensors", "tqdm": "tqdm", "IPython": "ipython"}
NEEDED |= {"matplotlib": "matplotlib", "ipywidgets": "ipywidgets!=8.1.9"}  # which shows nothing in VS Code
if LANGUAGE == "ja":
    NEEDED["matplotlib_fontja"] = "matplotlib-fontja"  # a font with Japanese letters


def version(package):
    """The installed version, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def install(packages, *options):
    """By pip; the torch and numpy that are there stay as they are."""
    kept = [f"{name}=={version(name)}\n" for name in ("torch", "numpy") if version(name)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(kept), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "--constraint", constraints, *options, *packages]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        print(done.stderr[-1500:])
        raise RuntimeError(f"{WORDS['failed']}: pip install {' '.join(packages)}")
    importlib.invalidate_caches()


def fits():
    """Whether this library is installed, in this version or a later one."""
    numbers = [tuple(int(part) for part in text.split(".")[:2]) for text in (version(PACKAGE) or "0.0", VERSION)]
    return numbers[0] >= numbers[1]


if missing := [package for module, package in NEEDED.items() if util.find_spec(module) is None]:
    print(f"{WORDS['installing']}: {', '.join(missing)} …")
    install(missing)
if not fits() and RELEASE:
    install([RELEASE], "--no-deps")
elif not fits() and "titans" not in sys.modules:
    folder = tempfile.mkdtemp(prefix="titans-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(CARRIED))) as archive:
        archive.extractall(folder, filter="data")
    sys.path.insert(0, folder)
print(WORDS["ready"])

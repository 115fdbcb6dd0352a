"""What a stranger gets who installs the wheel or the sdist: `make dist` runs it, away from the checkout.

python -P installed.py bare            # after `pip install stepwise-routing`
python -P installed.py local           # after `pip install 'stepwise-routing[local,report]'`
python -P installed.py contents ROOT DIST   # both archives hold the tracked runtime and nothing else

The standard library alone runs it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

QUESTION = "Ben planted 83 trees and lost 47 of them. How many trees does Ben have?"
TIMES_NUMPY = 6
"""What `import stepwise` may take, in times of `import numpy` (measured: 2)."""
COMMAND = Path(sys.executable).with_name("stepwise")


def run(*command: object, status: int = 0) -> str:
    """What a command prints.

    Raises:
        SystemExit: with its output, if it ends with another status.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def require(holds: bool, sentence: str) -> None:
    """Leave with a sentence unless it holds."""
    if not holds:
        sys.exit(sentence)


def import_seconds(module: str) -> float:
    """The best of five imports, each in a new interpreter; an interpreter's own start is taken off."""

    def once(program: str) -> float:
        start = perf_counter()
        run(sys.executable, "-P", "-c", program)
        return perf_counter() - start

    return min(once(f"import {module}") for _ in range(5)) - min(once("pass") for _ in range(5))


def check_bare() -> None:
    """The library and its commands, with what it depends on and nothing more."""
    import stepwise

    require("site-packages" in stepwise.__file__, f"{stepwise.__file__} is not the installed package.")
    require(stepwise.__version__ == version("stepwise-routing"), "The package and its metadata disagree.")
    heavy = [name for name in ("torch", "transformers", "matplotlib", "fastapi") if find_spec(name)]
    require(not heavy, f"A bare install brings {heavy}.")
    require(
        run(COMMAND, "--version").strip().endswith(stepwise.__version__), "Another version on the command."
    )
    require("solve" in run(COMMAND, "--help"), "The command's help is not there.")
    require("'local'" in run(COMMAND, "solve", QUESTION, status=2), "A missing extra is not named.")
    own, numpy = import_seconds("stepwise"), import_seconds("numpy")
    print(f"import stepwise: {own:.2f} s, numpy: {numpy:.2f} s ({own / numpy:.1f} times)")
    require(own < TIMES_NUMPY * numpy, f"import stepwise may take {TIMES_NUMPY} times as long as numpy.")


def check_local() -> None:
    """A question on the models that ship, and the demo's picture."""
    answer = run(COMMAND, "solve", QUESTION, "--budget", "0.4")
    require("answer: 36" in answer, f"The answer is 36:\n{answer}")
    run(COMMAND, "demo", "--n", 4, "--output", "demo")
    missing = {"summary.json", "rows.jsonl", "report.html", "frontier.png"} - {
        f.name for f in Path("demo").iterdir()
    }
    require(not missing, f"The demo did not write {missing}.")
    print("a question answered and the demo drawn by the installed package")


def check_contents(root: Path, dist: Path) -> None:
    """Both archives hold each tracked file of the runtime, and the wheel no other module."""
    [wheel], [source] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    tracked = set(run("git", "-C", root, "ls-files", "stepwise").splitlines())
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    with tarfile.open(source) as archive:
        unpacked = {name.partition("/")[2] for name in archive.getnames()}
    require(packed == tracked, f"The wheel differs from the checkout: {sorted(packed ^ tracked)}.")
    require(tracked <= unpacked, f"The sdist lacks {sorted(tracked - unpacked)}.")
    print(f"{len(tracked)} files in the wheel ({wheel.stat().st_size / 1e6:.1f} MB) and in the sdist")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare"]:
            check_bare()
        case ["local"]:
            check_local()
        case ["contents", root, dist]:
            check_contents(Path(root), Path(dist))
        case _:
            sys.exit(__doc__)

"""The command line as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from stepwise import load_dataset, load_pair, load_router
from stepwise.backends.options import known_backends
from stepwise.cli.chain import print_cost
from stepwise.cli.main import main
from stepwise.cli.terminal import plain
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.routers.named import DEFAULT_BUDGET, named_router, promised
from stepwise.routers.own import installed
from stepwise.types import Trace
from tests.worlds import engine, problem

QUESTION = load_dataset("nano", limit=1)[0].question


def test_solve_shows_the_chain_its_writers_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", QUESTION, "--budget", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "answer:" in shown and "cost:" in shown and "large alone" in shown
    assert "small" in shown and "gain per cost" in shown
    assert "know only sums in stories" in " ".join(shown.split()), "nano says what it can be asked"


def test_a_single_answer_may_cost_more_than_the_budget_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "budget of 1% holds on average"
    trace = Trace(problem(1), extra_cost=1.0, stop="answered")
    for budget, said in ((0.01, True), (1e9, False), (None, False)):
        print_cost(trace, engine(), Console(width=200), budget)
        assert (line in capsys.readouterr().out) == said
    policy = load_router("nano-ppo", budget=0.5)
    assert promised(policy, 0.5, None, None) == 0.5 and promised(policy, None, None, None) == DEFAULT_BUDGET
    assert promised(policy, None, 0.05, None) is promised(policy, None, None, 1.0) is None
    assert promised(Always("small"), None, None, None) is None


OWN = """
from stepwise import Decision
from stepwise.routers import Always, Confidence

class Short:
    name, look = "short", "before"
    def __init__(self, limit):
        self.limit = limit
    def decide(self, trace):
        return Decision("large" if len(trace.steps) >= self.limit else "small", reason=f"own {self.limit:g}")

class Broken(Short):
    def __init__(self):
        pass
    def decide(self, trace):
        raise KeyError("oh")

class Silent:
    look = "before"
    def score(self, trace):
        pass

ready = Always("small")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of routers of one's own, one of them installed by name."""
    module = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(OWN)
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepwise.routers]\nmine = {module}:Short\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    yield module
    installed.cache_clear()


def test_a_router_of_ones_own_is_a_module_and_a_class_or_installed(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (f"{own}:Short", "mine"):
        assert main(["solve", QUESTION, "--router", name, "--threshold", "0"]) in (0, 1)
        assert "own 0" in capsys.readouterr().out
    pair = load_pair("nano")
    assert named_router(f"{own}:ready", pair) == Always("small")
    router = named_router(f"{own}:Confidence", pair, threshold=1.0)
    assert router == ThresholdRouter(Confidence(), 1.0, "Confidence")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["typo"], "must be one of nano-ppo, confidence, entropy, small, middle, large, mine, a policy's"),
        (
            ["nowhere:Short"],
            "'nowhere:Short' cannot be imported: No module named 'nowhere'; is its folder in",
        ),
        (["OWN:Nobody"], r"cannot be imported: module 'own_.*' has no 'Nobody'\.$"),
        (["OWN:Shrot"], r"has no 'Shrot'; did you mean 'Short'\?$"),
        (["OWN:"], "router must be module:Class, not 'own_.*:'"),
        (
            ["OWN:Silent", "--threshold", "1"],
            r"'Silent' at step 1 .*: score of Silent \(own_.*\.py:2\d\) must",
        ),
        (["OWN:Short"], "cannot be made: .*'limit'; --threshold is its first argument"),
        (["OWN:Short", "--budget", "0.3"], "takes no budget; pass --threshold"),
        (["OWN:Confidence"], "is a scorer; pass --threshold"),
        (["OWN:Broken"], r"router 'short' failed at step 1 of problem .*: KeyError: 'oh' \(own_"),
    ],
)
def test_what_is_wrong_with_it_is_a_sentence(
    own: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named, *more = arguments
    assert main(["solve", QUESTION, "--router", named.replace("OWN", own), *more]) == 2
    shown = capsys.readouterr().err
    assert re.search(sentence, shown.strip()) and shown.count("\n") == 1, shown


def test_a_chain_without_an_answer_is_a_failure_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, _, large = load_pair("nano").models
    models = [{"name": "tiny", "path": small.path}, {"name": "big", "path": large.path}]
    file = tmp_path / "short.yaml"
    file.write_text(json.dumps({"name": "short", "prompt": "{question}\n", "models": models, "max_steps": 1}))
    assert main(["solve", QUESTION, "--pair", str(file), "--router", "big"]) == 1
    assert "stopped before it gave an answer: max_steps" in capsys.readouterr().out


def test_what_others_write_does_not_steer_the_terminal() -> None:
    assert plain("\x1b[2J\x9b1m\u202ea\ud800\r\n\té ≤") == "\ufffd[2J\ufffd1m\ufffda\ufffd\ufffd\n\té ≤"
    assert all(c.isprintable() or c in "\t\n\xad\xa0\ufffd" for c in plain("".join(map(chr, range(0x250)))))


def test_doctor_finds_a_healthy_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "nano large" in shown and "backend transformers" in shown and "broken" not in shown


def test_the_demo_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--n", "12", "--output", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n"] == 12 and {p["router"] for p in summary["points"]} >= {"small", "large", "ppo"}
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(rows) == 12 * len(summary["points"])
    for name in ("report.html", "frontier.png", "frontier.pdf", "points.csv", "table.tex"):
        assert (tmp_path / name).exists()
    (tmp_path / "report.html").unlink()
    assert main(["report", str(tmp_path)]) == 0 and (tmp_path / "report.html").exists()
    assert "ppo" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["solve", " "], "question must not be empty"),
        (["solve", "1 " * 60_000], "question is too long"),
        (["solve", "1 + 1", "--cost", "tokens"], "trained to keep down FLOPs, not tokens"),
        (["serve", "--cost", "tokens"], "trained to keep down FLOPs, not tokens"),
        (["solve", "q", "--pair", "mega"], "pair must be nano or the path"),
        (["solve", "q", "--backend", "x"], "backend: name must be one of chat, "),
        (["solve", "q", "--router", "oracle"], "router must be one of nano-ppo"),
        (["solve", "q", "--budget", "0"], "budget must lie in (0, 1]"),
        (["solve", "q", "--budget", "1.5"], "(a fraction of large-only cost, not dollars), not 1.5"),
        (["solve", "q", "--budget", "0.001"], "budget 0.001 cannot be promised"),
        (["report", "/no/such/run"], "/no/such/run holds no finished evaluation"),
        (
            ["solve", "q", "--backend", "x"],
            f"backend: name must be one of {', '.join(known_backends())}, not 'x'",
        ),
        (["demo", "--output", "/dev/null/x"], "output: /dev/null/x cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.startswith("stepwise: ") and shown.err.count("\n") == 1


def test_usage_errors_exit_with_2() -> None:
    for arguments in ([], ["dance"], ["demo", "--n", "0"], ["demo", "--backend", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_a_usage_error_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scope", "choose", "q", "--budget", "cheap"])
    sentence = "argument --budget: invalid float value: 'cheap'; see `stepwise scope choose --help`."
    assert capsys.readouterr().err == f"stepwise: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["scope", "import", "results.csv", "--anchor", "100"],
            "unrecognized arguments: --anchor 100; see `stepwise scope import --help`.",
        ),
        (
            ["solve", "What", "is", "3 times 4?"],
            "unrecognized arguments: is 3 times 4? (a text of several words needs quotes); "
            "see `stepwise solve --help`.",
        ),
    ],
)
def test_what_is_left_over_is_refused_by_the_command_itself(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err == f"stepwise: {sentence}\n"


def test_the_installed_command_has_help() -> None:
    for command in ([], ["demo"], ["solve"], ["doctor"]):
        shown = subprocess.run(
            [Path(sys.executable).parent / "stepwise", *command, "--help"], capture_output=True, text=True
        )
        assert shown.returncode == 0 and "usage:" in shown.stdout


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://somewhere/v1", "base_url must start with http:// or https://, not 'ftp://somewhere/v1'."),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1 failed: Cannot connect to host"),
    ],
)
def test_the_doctor_says_why_a_server_cannot_be_asked(
    url: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--base-url", url]) == 2
    assert sentence in capsys.readouterr().err

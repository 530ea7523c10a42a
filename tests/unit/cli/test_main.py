from __future__ import annotations

import errno
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import wrn.cli
from wrn.cli import COMMANDS, ON_AWS, main
from wrn.errors import Interrupted

if TYPE_CHECKING:
    from mocked_aws import Faults


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert len(shown.splitlines()) <= 40


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"wrn {name}" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with suppress(SystemExit):
        main([name, "--help"] if name else ["--help"])
    head = capsys.readouterr().out.partition("options:")[0]
    assert head.startswith(f"usage: wrn {name}".strip() if name else ("usage: wrn", "wrn "))
    wide = [line.strip() for line in head.splitlines() if len(line) > columns]
    assert [line for line in wide if not (line.startswith("[") and line.find("]") == len(line) - 1)] == []


def test_a_wrapped_usage_does_not_split_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    assert capsys.readouterr().out.splitlines()[:4] == [
        "usage: wrn plan [--recipe NAME|FILE] [--max-hours H]",
        "                [--max-cost C] [--region R]",
        "                [--KEY VALUE ...]",
        "",
    ]


def test_a_typo_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == 'wrn: "trian" is not a command; did you mean "wrn train"?\n'


def test_no_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: wrn COMMAND" in capsys.readouterr().out


def test_mistakes_are_sentences_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--epocs", "3", "--lr", "-1"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.split("\n")[:2] == [
        "wrn train: --epocs: is not a known flag; did you mean --epochs?",
        "wrn train: lr (flag): '-1' is not allowed; input should be greater than 0",
    ]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Interrupted("saved"), 3, "wrn train: saved"),
        (KeyboardInterrupt(), 3, "stopped at once"),
        (RuntimeError("boom"), 1, "this is a bug"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("wrn.cli.train.main", fail)
    assert wrn.cli.main(["train"]) == code
    assert words in capsys.readouterr().err


def test_config_says_where_values_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--recipe", "paper", "--lr", "0.2"]) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in shown.split("\n") if line.startswith("  ")}
    assert lines["lr:"] == ["0.2", "#", "flag"]
    assert lines["batch_size:"] == ["128", "#", "paper.yaml"]
    assert lines["depth:"] == ["28", "#", "config.yaml"]
    assert yaml.safe_load(shown)["training"]["lr"] == 0.2


def test_config_as_json_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--json", "--epochs", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 7


def test_a_folder_that_is_not_a_model_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model-dir", str(tmp_path)]) == 2
    assert "contains no model.json; give the model/ folder of a finished run" in capsys.readouterr().err
    assert main(["predict", "--model-dir", str(tmp_path / "no"), "x.png"]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_full_disk_for_the_output_is_not_a_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wrn.cli.config.main", full)
    monkeypatch.setattr("wrn.cli.drop", lambda stream: None)
    assert main(["config"]) == 2
    assert capsys.readouterr().err == (
        "wrn config: no space left on the output's disk; free some, then repeat the command\n"
    )


def test_an_error_in_a_benchmarks_own_flag_names_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--rounds", "0"]) == 2
    assert capsys.readouterr().err.endswith(
        "'0' is not allowed; give a whole number from 1 to 999999999; see wrn bench train --help\n"
    )


def test_closed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["config"]) == 0
    sys.stdout.close()


def takes_debug(name: str, capsys: pytest.CaptureFixture[str]) -> bool:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    return "--debug" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_debug_shows_requests_and_the_origin_of_an_error(
    name: str, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For every command that takes the flag; without it, an error is only its sentence."""
    assert takes_debug(name, capsys) == (name in ON_AWS)
    if name not in ON_AWS:
        return
    monkeypatch.chdir(tmp_path)
    more = {"deploy": ["--yes", "--dataset", "synthetic"], "image": ["push"], "jobs": [], "costs": []}
    monkeypatch.setattr("wrn.cli.image.push", lambda session, *_: session.account)  # its program need not be here
    words = [name, *more.get(name, [] if name == "teardown" else ["wrn-a"]), "--region", "eu-west-1"]
    for operation in ("GetCallerIdentity", "ListTrainingJobs", "DescribeTrainingJob"):
        faults.refuse(operation, "AccessDeniedException", "not you", status=403, times=2)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert f"wrn {name}: " in told
    assert main([*words, "--debug"]) == 2
    told, _, after = capsys.readouterr().err.partition("Traceback (most recent call last):\n")
    assert "requests to AWS:" in told
    raised, sentence = after.splitlines()[-2:]
    assert sentence.startswith(f"wrn {name}: ")
    assert raised.endswith(sentence.removeprefix(f"wrn {name}"))
    assert "not you (AccessDeniedException)" in sentence


def test_a_deleted_working_directory_is_reported_before_torch_is_imported(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); from wrn.cli import main; "
    program += "print(main(['train']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=gone, capture_output=True, text=True, check=False)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("wrn train: the working directory was deleted")
    assert done.stderr.count("\n") == 1

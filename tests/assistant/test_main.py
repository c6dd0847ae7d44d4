"""What all commands share: one line on stderr, an exit code, no traceback. By the real door where it counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assistant import __version__
from assistant.__main__ import busy
from assistant.cli import SUMMARIES
from tests.assistant.fake import Shell
from tests.tiny import write_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.py"
    path.write_text("x = <CURSOR>\n")
    return path


def test_help_lists_every_command_and_loads_none(viable: Shell) -> None:
    ran = viable("--help")
    assert ran.code == 0
    assert all(f"  {name} " in ran.out and line in ran.out for name, line in SUMMARIES.items())
    assert viable("--version").out == f"viable, version {__version__}\n"


@pytest.mark.parametrize("name", ["complete", "validate", "batch"])
def test_help_teaches_by_examples(viable: Shell, name: str) -> None:
    ran = viable(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count(f"viable {name} ") >= 4
    assert "xit code" in ran.out
    assert all(len(line) <= 100 for line in ran.out.splitlines())


def test_help_tells_the_defaults_of_the_command(viable: Shell) -> None:
    """An editor's suggestions are shorter, and read less."""
    for name, expected in (("complete", ["4096", "256", "0"]), ("lsp", ["1024 without a GPU", "64", "3000"])):
        text = " ".join(viable(name, "--help").out.split())
        options = ("Prompt and answer together.", "Generate at most this much.", "0 is no limit.")
        assert all(f"{option} [{default}]" in text for option, default in zip(options, expected, strict=True))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "no command is called 'nothing'"),
        (["complete"], "Missing argument 'FILE'"),
        (["complete", "f.py", "--nothing"], "No such option"),
        (["complete", "f.py", "--in-plac"], "Did you mean '--in-place'? `viable complete"),
        (["complete", "f.py", "--max-tokens", "many"], "'many' is not a valid integer"),
        (["batch", "in.jsonl"], "Missing option '-o'"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(viable: Shell, arguments: list[str], told: str) -> None:
    ran = viable(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.error
    command = "viable" if arguments[0] == "nothing" else f"viable {arguments[0]}"
    assert ran.error.endswith(f" `{command} --help` shows how")


def test_a_group_without_a_command_shows_its_help(viable: Shell) -> None:
    ran = viable("models")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == viable("models", "--help").out


def test_an_option_of_the_repl_before_a_command_says_where_it_belongs(viable: Shell) -> None:
    ran = viable("--model", "gpt-4", "complete", "f.py")
    assert (ran.code, ran.out) == (2, "")
    assert ran.error == "--model comes behind the command: `viable complete --model …`; `viable --help` shows how"
    assert "No such option" in viable("--nothing").error


@pytest.mark.parametrize("name", ["complete", "validate", "batch"])
def test_an_empty_name_is_no_folder(viable: Shell, name: str) -> None:
    ran = viable(name, "", *(["-o", "out.jsonl"] if name == "batch" else []))
    assert (ran.code, ran.out) == (2, "")
    assert "file's name is empty" in ran.error


def test_a_file_s_name_does_nothing_to_the_terminal(viable: Shell) -> None:
    ran = viable("complete", "a\x1b[31m\nb.py")
    assert (ran.code, ran.error) == (2, "a\\x1b[31m b.py: no such file or directory")


@pytest.mark.parametrize(
    ("model", "code", "told"),
    [
        ("gpt-4", 2, "unknown model 'gpt-4'"),
        ("./none.gguf", 2, "no such model file or folder: ./none.gguf"),
        ("{folder}/text.gguf", 1, "text.gguf"),
        ("{folder}/empty.gguf", 1, "empty.gguf"),
        ("{folder}/half.gguf", 1, "half.gguf"),
        ("{folder}/header.gguf", 1, "header.gguf"),
        ("{folder}", 1, ""),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(
    viable: Shell, file: Path, tiny: Path, model: str, code: int, told: str
) -> None:
    whole = tiny.read_bytes()
    folder = file.parent / "models"
    folder.mkdir()
    for name, data in (
        ("text", b"hello\n" * 99),
        ("empty", b""),
        ("half", whole[: len(whole) // 2]),
        ("header", whole[:30]),
    ):
        (folder / f"{name}.gguf").write_bytes(data)
    ran = viable("complete", file, "--in-place", "--model", model.format(folder=folder))
    assert (ran.code, ran.out) == (code, "")
    assert told in ran.error
    assert file.read_text() == "x = <CURSOR>\n"


def test_a_real_model_by_every_way_out(viable: Shell, file: Path, tiny: Path) -> None:
    """One model for the checks that need one: a cut prompt, no room, a broken file, line ends and tabs."""
    options = ["--model", tiny, "--max-tokens", "12", "--offline"]
    source = "if True:\r\n" + "".join(f"\tvalue_{i} = {i}\r\n" for i in range(60)) + "\tx = <CURSOR>\r\n\ty = 1\r\n"
    file.write_bytes(source.encode())
    ran = viable("complete", file, "--in-place", *options, "--context", "64")
    assert ran.code in (0, 1)
    assert "the prompt was cut to the text nearest the gap" in ran.error
    left, right = source.encode().split(b"<CURSOR>")
    written = file.read_bytes()
    assert written.startswith(left)
    assert written.endswith(right) or written == source.encode()
    assert b"\n" not in written.replace(b"\r\n", b"")
    ran = viable("complete", file, *options, "--context", "16")
    assert ran.code == 2
    assert "leaves no room for a prompt" in ran.error
    file.write_text("x = = 1\ny = <CURSOR>\n")
    ran = viable("complete", file, *options)
    assert ran.code in (0, 1)
    assert "1:5" in ran.error


# --- processes ----------------------------------------------------------------------------------------------


NO_MODEL = "unknown model 'gpt-4'; `viable models list` shows those that are known"
NO_ROOM = "max_tokens 4089 leaves no room for a prompt in a context of 4096"
ENDLESS = "/dev/zero: is no regular file or pipe, so it is not read"
MISUSES = (
    ("complete {file} --at 9:9", 2, "{file}: line 9 is outside the file, which has 2 lines"),
    ("complete {file} --model gpt-4", 2, NO_MODEL),
    ("complete {file} --max-tokens 4089", 2, NO_ROOM),
    ("complete {file} --in-place", 1, "{file}: not written: it is read-only"),
    ("complete /dev/zero", 2, ENDLESS),
    ("batch {rows} -o {out} --model gpt-4", 2, NO_MODEL),
    ("batch {rows} -o {out} --max-tokens 4089", 2, NO_ROOM),
    ("batch {file} -o {out} --in-place", 1, "{file}: not written: it is read-only"),
    ("batch /dev/zero -o {out}", 2, ENDLESS),
    ("validate /dev/zero", 2, ENDLESS),
    ("repl --model gpt-4", 2, NO_MODEL),
    ("--model gpt-4", 2, NO_MODEL),
    ("--max-tokens=4089", 2, NO_ROOM),
)
"""Arguments, exit code and the line."""


@pytest.mark.e2e
def test_misuse_does_not_wait_for_torch(file: Path) -> None:
    """In one process. To root every file looks writable, so that the system's answer is given for it; and memory is
    limited, for an endless file is read to its end where it is read."""
    names = {"file": file, "rows": file.with_name("rows.jsonl"), "out": file.with_name("out.jsonl")}
    names["rows"].write_text('{"prompt": "x = "}\n{"prompt": "y = "}\n')
    code = """
import os, resource, sys
from assistant.__main__ import run
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
os.access = lambda path, mode: False
print(*[run(line.split()) for line in sys.argv[1:]], "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, *(arguments.format(**names) for arguments, _, _ in MISUSES)]
    ran = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stderr.splitlines() == [f"viable: {told.format(**names)}" for _, _, told in MISUSES]
    assert ran.stdout.split() == [*(str(exit_code) for _, exit_code, _ in MISUSES), "False"]
    assert not names["out"].exists()


@pytest.mark.e2e
def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    for i in range(3000):
        (tmp_path / f"{i:05}.py").write_text("x = = 1\n")
    command = [sys.executable, "-m", "assistant", "validate", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert err == b""


@pytest.mark.e2e
def test_a_full_or_closed_output_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("x = = 1\n")
    command = f"'{sys.executable}' -m assistant validate '{tmp_path}/f.py'"
    for redirection in (">/dev/full", ">&-"):
        ran = subprocess.run(
            ["sh", "-c", f"{command} {redirection}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 1, redirection
        assert "Traceback" not in ran.stderr
        assert "Exception ignored" not in ran.stderr
        assert ran.stderr.count("\n") == (redirection == ">/dev/full"), ran.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("moment", ["libtorch", "opening", "writing"])
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_at_any_moment_is_one_line(tmp_path: Path, moment: str, times: int) -> None:
    """While PyTorch is imported, while weights are read, while a model writes; pressed once and pressed often."""
    model = write_tiny_gguf(tmp_path, layers=12)
    (folder := tmp_path / "code").mkdir()
    (file := folder / "f.py").write_text("x = '''<CURSOR>")
    (marks := tmp_path / "marks").mkdir()
    program = ["assistant"] if moment == "libtorch" else ["tests.assistant.watched_process", str(marks)]
    command = [sys.executable, "-m", *program, "complete", str(file), "--in-place"]
    options = ["--model", str(model), "--max-tokens", "900", "--context", "1000", "--draft", "none"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while process.poll() is None and not (_maps(process.pid, moment) or (marks / moment).exists()):
        time.sleep(0.005)
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.01)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"viable: interrupted\n")
    assert file.read_text() == "x = '''<CURSOR>"
    assert [path.name for path in folder.iterdir()] == ["f.py"]


def _maps(process: int, library: str) -> bool:
    try:
        return library in Path(f"/proc/{process}/maps").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(("load", "expected"), [(0.3, False), (1.9, False), (2.0, True), (7.5, True)])
def test_a_machine_whose_cores_all_work_is_busy(load: float, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 9.0))
    assert busy() is expected


def test_a_system_that_tells_no_load_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")
    assert not busy()

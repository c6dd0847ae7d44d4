"""The Neovim plugin of the examples, in a real Neovim: attach, ask, cancel, take."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lsp.editors import Neovim, running_neovim

pytestmark = pytest.mark.e2e

GHOST = "require('viable.ghost').text()"
STATS = "(require('viable').stats() or {})"


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """Neovim with a file open and the server attached."""
    folder = tmp_path_factory.mktemp("nvim")
    files = {"a.py": "", "dos.py": '#> "if a:\\n\\tb = 1"\r\n', "notes.md": "# notes\n"}
    with running_neovim(folder, {}, files) as editor:
        editor.until(f"{STATS}.state", "ready")
        yield editor


@pytest.fixture(autouse=True)
def _fresh(editor: Neovim) -> None:
    editor.type("<C-\\><C-n>:silent edit! a.py<CR>:silent %delete _<CR>")


def ask(editor: Neovim, text: str, typed: str = "") -> None:
    """Begin a line for which the server will write a text."""
    script = f"#> {json.dumps(text)}"
    editor.lua(f"vim.api.nvim_buf_set_lines(0, 0, -1, false, {{{json.dumps(script)}, ''}})")
    editor.type(f"G$a{typed}")


def test_the_server_is_attached_with_bytes_as_columns(editor: Neovim) -> None:
    assert editor.lua("require('viable').client().offset_encoding") == "utf-8"
    assert editor.lua("require('viable').client().server_capabilities.inlineCompletionProvider ~= nil") is True


def test_ghost_text_is_drawn_and_taken_with_a_key(editor: Neovim) -> None:
    ask(editor, "alue = [\n    1,\n]", typed="v")
    editor.until(GHOST, "alue = [\n    1,\n]")
    marks = editor.lua(
        "vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces().viable, 0, -1, {details = true})"
    )
    [[_, row, column, details]] = marks
    assert (row, column) == (1, 1)
    assert details["virt_text"][0][0] == "alue = ["
    assert [line[0][0] for line in details["virt_lines"]] == ["    1,", "]"]
    editor.type("<Tab>")
    editor.until(GHOST, None)
    assert editor.lines[1:] == ["value = [", "    1,", "]"]
    assert editor.lua("vim.api.nvim_win_get_cursor(0)") == [4, 1]
    editor.until(f"{STATS}.accepted", 1)


def test_a_word_and_a_line_at_a_time_leave_a_file_that_parses(editor: Neovim) -> None:
    ask(editor, "é = call(1, 2)\nother = 3")
    editor.type("<M-\\>")
    editor.until(GHOST, "é = call(1, 2)\nother = 3")
    for key, expected, rest in (
        ("<M-Right>", ["é"], " = call(1, 2)\nother = 3"),
        ("<M-Right>", ["é = call"], "(1, 2)\nother = 3"),
        ("<M-Down>", ["é = call(1, 2)"], "\nother = 3"),
        ("<M-Down>", ["é = call(1, 2)", "other = 3"], None),
    ):
        editor.type(key)
        editor.until(GHOST, rest)
        assert editor.lines[1:] == expected
        ast.parse("\n".join(editor.lines))


def test_a_key_counts_though_the_same_text_is_suggested_once_more_meanwhile(editor: Neovim) -> None:
    ask(editor, "a = call(1, 2)")
    editor.type("<M-\\>")
    editor.until(GHOST, "a = call(1, 2)")
    # Both questions are under way at once; the suggestion's answer comes first.
    editor.lua("require('viable.ghost').request(true) and require('viable.ghost').accept_line()")
    editor.until(GHOST, None)
    assert editor.lines[1:] == ["a = call(1, 2)"]


def test_keys_in_quick_succession_count_one_by_one(editor: Neovim) -> None:
    ask(editor, "a = call(1, 2)\nb = 3")
    editor.type("<M-\\>")
    editor.until(GHOST, "a = call(1, 2)\nb = 3")
    # Pressed before the server has said how far the first one goes.
    editor.lua(
        "vim.iter({'word', 'word', 'line', 'line'}):map(function(kind) "
        "return require('viable.ghost')['accept_' .. kind]() end):totable()"
    )
    editor.until(GHOST, None)
    assert editor.lines[1:] == ["a = call(1, 2)", "b = 3"]


def test_the_suggestion_follows_while_the_editors_menu_is_open(editor: Neovim) -> None:
    ask(editor, "al_one = 12")
    editor.type("tot<M-\\>")
    editor.until(GHOST, "al_one = 12")
    editor.lua("vim.fn.complete(1, {'total', 'total_one', 'total_two'})")
    editor.type("<C-e>al")
    editor.until(GHOST, "_one = 12")
    editor.lua("vim.schedule(function() vim.fn.complete(1, {'total', 'total_one', 'total_two'}) end)")
    editor.until("vim.fn.pumvisible()", 1)
    editor.type("_")
    editor.until(GHOST, "one = 12")


def test_typing_on_keeps_the_suggestion_without_asking_again(editor: Neovim) -> None:
    ask(editor, "total = 12")
    editor.type("<M-\\>")
    editor.until(GHOST, "total = 12")
    before = editor.lua(STATS)["requests"]
    editor.type("tot")
    editor.until(GHOST, "al = 12")
    assert editor.lua(STATS)["requests"] == before
    editor.type("<C-]>")
    editor.until(GHOST, None)
    assert editor.lines[1:] == ["tot"]


def test_a_key_without_a_suggestion_does_what_it_always_does(editor: Neovim) -> None:
    ask(editor, "")
    editor.type("<Tab>x<Esc>")
    editor.until("vim.api.nvim_get_current_line()", "    x")


def test_leaving_insert_mode_clears_the_suggestion(editor: Neovim) -> None:
    ask(editor, "a = 1")
    editor.type("<M-\\>")
    editor.until(GHOST, "a = 1")
    editor.type("<Esc>")
    editor.until(GHOST, None)


def test_windows_line_ends_stay(editor: Neovim) -> None:
    editor.type("<Esc>:silent edit! dos.py<CR>GA<CR>")
    editor.until(GHOST, "if a:\n\tb = 1")
    editor.type("<Tab><Esc>:silent write<CR>")
    name = editor.lua("vim.api.nvim_buf_get_name(0)")
    wanted = b'#> "if a:\\n\\tb = 1"\r\nif a:\r\n\tb = 1\r\n'
    editor.until("vim.bo.modified", False)
    assert Path(name).read_bytes() == wanted


def test_other_files_are_left_alone(editor: Neovim) -> None:
    editor.type("<Esc>:silent edit! notes.md<CR>")
    assert editor.lua("#vim.lsp.get_clients({bufnr = 0})") == 0


def test_a_newer_request_cancels_the_older(tmp_path: Path) -> None:
    long = json.dumps("x = 1\n" * 400)
    with running_neovim(tmp_path, {"auto": False}, {"slow.py": f"#> {long}\n"}, FAKE_PASS_MS="5") as editor:
        editor.until(f"{STATS}.state", "ready")
        editor.type("o<M-\\>")
        editor.until(f"({STATS}.writing or 0) > 0", True)
        editor.type("<Esc>")
        editor.until(f"{STATS}.stopped", 1)
        editor.until(f"{STATS}.writing", 0)
        assert editor.lines == [f"#> {long}", ""]


@pytest.mark.parametrize("command", ["write b.py", "file c.py", "saveas d.py"])
def test_a_file_with_a_new_name_is_served_by_that_name(editor: Neovim, command: str) -> None:
    editor.type("<Esc>:enew!<CR>:set filetype=python<CR>")
    ask(editor, "a = 1")
    editor.until(GHOST, "a = 1")
    documents = editor.lua(STATS)["documents"]
    editor.type(f"<Esc>:silent {command}<CR>")
    editor.until("vim.fn.expand('%')", command.split()[1])
    editor.type("S")
    editor.until(GHOST, "a = 1")
    assert editor.lua(STATS)["documents"] == documents
    editor.type("<Tab>")
    editor.until("vim.api.nvim_get_current_line()", "a = 1")


def test_undo_takes_back_what_was_taken_and_not_what_was_typed(editor: Neovim) -> None:
    ask(editor, "alue = call(1)\nb = 2", typed="v")
    editor.until(GHOST, "alue = call(1)\nb = 2")
    editor.type("<M-Down>")
    editor.until(GHOST, "\nb = 2")
    editor.type("<Tab><Esc>")
    taken = ["value = call(1)", "b = 2"]
    for left in (taken, taken[:1], ["v"]):
        editor.until("vim.api.nvim_buf_get_lines(0, 1, -1, false)", left)
        editor.type("u")


def test_a_server_that_has_crashed_is_followed_by_another(tmp_path: Path) -> None:
    with running_neovim(tmp_path, {}, {"a.py": '#> "a = 1"\n'}) as editor:
        editor.type("o")
        for crashes in range(1, 5):
            editor.until(f"{STATS}.state", "ready")
            editor.type("<Esc>S")
            editor.until(GHOST, "a = 1")
            before = editor.lua("require('viable').client().id")
            kill(editor)
            editor.until(GHOST, None)
            if crashes < 4:
                editor.until(f"(require('viable').client() or {{id = {before}}}).id ~= {before}", True)
        editor.until("#vim.lsp.get_clients()", 0)
        editor.type("<Esc>:ViableRestart<CR>")
        editor.until(f"{STATS}.state", "ready")
        editor.type("S")
        editor.until(GHOST, "a = 1")


def test_a_server_that_cannot_start_is_started_once(tmp_path: Path) -> None:
    setup = {"cmd": ["sh", "-c", "echo started >> starts; exit 2"]}
    with running_neovim(tmp_path, setup, {"a.py": ""}) as editor:
        editor.until("vim.fn.execute('messages'):find(':ViableRestart starts another') ~= nil", True)
        assert (tmp_path / "starts").read_text() == "started\n"
        editor.type(":ViableRestart<CR>")
        editor.until("#vim.fn.readfile('starts')", 2)


def kill(editor: Neovim) -> None:
    """End the editor's server as the kernel does where memory is full."""
    children = "vim.iter(vim.api.nvim_get_proc_children(vim.fn.getpid()))"
    assert editor.lua(f"{children}:map(function(pid) return vim.uv.kill(pid, 'sigkill') end):totable()") == [0]

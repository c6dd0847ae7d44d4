"""What a request cost is added up by drafter, and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistant.completion import Completion, Drafted, Request
from assistant.counts import Tally
from assistant.document import Gap
from model.engine import LookupDraft, Onward, Share, Step
from tests.assistant.fake import FakeSession, Shell
from tests.assistant.scripted import scripted


def test_a_tally_counts_passes_once_and_tokens_by_drafter() -> None:
    tally = Tally()
    tally.add(Step(ids=(1, 2, 3), drafted=4, viable=3, agreed=2, refused=1, width=6, shares=(
        Share("mtp", 2, 2, 2), Share("lookup", 1, 1, 0), Share("lookup", 1, 0, 0),
    )))  # fmt: skip
    tally.add(Step(ids=(4, 5), forced=1, width=5, shares=(Share("forced", 1, 1, 1),)))
    tally.add(Step(ids=(6,), width=5))
    assert tally.drafters == {
        "mtp": Drafted(1, 2, 2, 2),
        "lookup": Drafted(1, 2, 1, 0),
        "forced": Drafted(1, 1, 1, 1),
        "none": Drafted(1, 0, 0, 0),
    }
    counts = tally.counts()
    assert (counts["tokens"], counts["passes"], counts["forced"], counts["widest"]) == (6, 3, 1, 6)
    assert (counts["drafted"], counts["accepted"], counts["fallbacks"], counts["avoided"]) == (4, 2, 1, 1)


def test_what_is_drafted_adds_up_to_the_totals() -> None:
    gap = Gap("a = [1, 2]\nb = [1, 2]\nc = ", "\n")
    drafter = Onward(LookupDraft(shortest=4, longest=8), LookupDraft(shortest=2))
    found: Completion = scripted(gap, "[1, 2]\nd = [1, 2]", drafter=drafter).complete(Request(gap))
    assert sum(each.proposed for each in found.drafters.values()) == found.drafted > 0
    assert sum(each.kept for each in found.drafters.values()) == found.accepted + found.forced > 0
    assert sum(each.passes for each in found.drafters.values()) == found.passes, "one drafter, so one name a pass"
    assert found.widest >= 6


def test_stats_and_json_say_who_drafted(viable: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.py"
    file.write_text("x = [1, 2]\ny = [1, 2]\nz = <CURSOR>\n")
    gap = Gap("x = [1, 2]\ny = [1, 2]\nz = ", "\n")
    monkeypatch.setattr("assistant.session.open_session", lambda settings: scripted(gap, "[1, 2]"))
    ran = viable("complete", file, "--stats")
    assert ran.out == "[1, 2]"
    assert "\n  lookup " in ran.err and " proposed, " in ran.err and "window up to " in ran.err
    fields = json.loads(viable("complete", file, "--json").out)
    assert fields["drafters"]["lookup"]["kept"] == fields["accepted"] > 0
    assert FakeSession().complete(Request(gap)).drafters == {}


def test_no_more_than_a_block_is_kept_unlooked_at() -> None:
    gap = Gap("a = [1, 2]\nb = [1, 2]\nc = ", "\n")
    for accept, widest in (("verified", 6), ("syntax", 2)):
        found = scripted(gap, "[1, 2]", accept=accept).complete(Request(gap))
        assert found.valid
        assert (found.widest if accept == "syntax" else min(found.widest, 6)) == widest

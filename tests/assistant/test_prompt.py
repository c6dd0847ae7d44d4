"""From text to the ids that the model reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.prompt import RIGHT_SHARE, build
from model import ByteTokenizer, Tokenizer

BYTES = ByteTokenizer()
texts = st.text(st.sampled_from("abé\n"), max_size=60)


def test_without_text_to_the_right_the_prompt_is_the_text() -> None:
    assert build(BYTES, "x = ", "", 20) == (tuple(BYTES.encode("x = ")), False, False)


def test_an_empty_file_begins_where_a_document_does() -> None:
    prompt = build(BYTES, "", "", 20)
    assert prompt.ids == (BYTES.specials["<|endoftext|>"],)
    assert not prompt.cut


def test_a_model_without_marks_reads_what_stands_left() -> None:
    plain = Tokenizer(BYTES.encode, BYTES.pieces, BYTES.specials, BYTES.end_ids, None)
    assert build(plain, "ab", "cd", 20) == (tuple(BYTES.encode("ab")), False, False)


@given(texts, texts, st.integers(8, 80))
def test_the_nearest_text_is_kept_and_the_room_is_used(prefix: str, suffix: str, budget: int) -> None:
    prompt = build(BYTES, prefix, suffix, budget)
    left, right = BYTES.encode(prefix), BYTES.encode(suffix)
    assert 1 <= len(prompt.ids) <= budget
    if not right:
        assert not left or list(prompt.ids) == left[-len(prompt.ids) :]
        assert prompt.cut == (len(left) > budget)
        return
    marks = BYTES.fim
    assert marks is not None
    assert prompt.ids[0] == marks.prefix
    assert prompt.ids[-1] == marks.middle
    middle = prompt.ids.index(marks.suffix)
    kept_left, kept_right = list(prompt.ids[1:middle]), list(prompt.ids[middle + 1 : -1])
    assert left[len(left) - len(kept_left) :] == kept_left
    assert right[: len(kept_right)] == kept_right
    assert prompt.cut == (len(kept_left) < len(left) or len(kept_right) < len(right))
    if prompt.cut:
        assert len(prompt.ids) == budget, "text was left out though there was room for it"
        share = int((budget - 3) * RIGHT_SHARE)
        assert len(kept_right) >= min(share, len(right)), "the right-hand text gave way beyond its share"
        assert len(kept_left) >= min(budget - 3 - share, len(left)), "the left-hand text gave way beyond its share"


def test_a_mark_in_the_text_is_text() -> None:
    """A file may hold the very marks that frame a gap; they must not frame one."""
    marks = BYTES.fim
    assert marks is not None
    prompt = build(BYTES, "'<|fim_middle|>'", "'<|endoftext|>'", 100)
    assert [i for i in prompt.ids if BYTES.pieces[i] is None] == [marks.prefix, marks.suffix, marks.middle]


def test_a_model_with_a_token_of_its_own_for_the_beginning_gets_it_first() -> None:
    specials = {**BYTES.specials, "<|begin_of_text|>": 263}
    llama = Tokenizer(BYTES.encode, [*BYTES.pieces, None], specials, BYTES.end_ids, BYTES.fim)
    assert build(llama, "", "", 20).ids == (263,)
    assert build(llama, "ab", "", 20).ids == (263, *BYTES.encode("ab"))
    filled = build(llama, "abcdefgh", "ijklmnop", 12)
    assert filled.ids[0] == 263 and len(filled.ids) == 12 and filled.cut
    assert BYTES.begin == ()

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


@given(texts, texts, st.integers(8, 80))
def test_a_model_that_reads_the_right_hand_text_first_reads_the_same(prefix: str, suffix: str, budget: int) -> None:
    marks = BYTES.fim
    assert marks is not None
    first = Tokenizer(BYTES.encode, BYTES.pieces, BYTES.specials, BYTES.end_ids, marks, suffix_first=True)
    prompt, other = build(first, prefix, suffix, budget), build(BYTES, prefix, suffix, budget)
    if not suffix:
        assert prompt == other
        return
    one, two = other.ids.index(marks.suffix), len(other.ids) - 1
    left, right = other.ids[1:one], other.ids[one + 1 : two]
    assert prompt == ((marks.prefix, marks.suffix, *right, marks.middle, *left), other.cut, True)


def test_where_it_reads_a_part_of_it_prompts_begin_alike_while_the_user_types() -> None:
    first = Tokenizer(BYTES.encode, BYTES.pieces, BYTES.specials, BYTES.end_ids, BYTES.fim, suffix_first=True)
    lines = [f"line {i}\n" for i in range(100)]
    text = "".join(lines)
    heads = {build(first, text[: 60 + typed], text, 600).ids[:300] for typed in range(40)}
    assert len(heads) <= 2


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


CODE = "".join(f"def function_{i}(first, second):\n    return first + {i}\n\n" for i in range(400))


def test_of_a_long_file_only_what_is_near_is_encoded() -> None:
    encoded: list[int] = []

    def encode(text: str) -> list[int]:
        encoded.append(len(text))
        return BYTES.encode(text)

    counting = Tokenizer(encode, BYTES.pieces, BYTES.specials, BYTES.end_ids, BYTES.fim)
    prompt = build(counting, CODE, CODE, 100)
    assert prompt.cut and max(encoded) <= 8 * (100 + 16) < len(CODE)
    assert prompt.ids == build(BYTES, CODE, CODE, 100).ids
    blank = " " * 50_000  # of which a real vocabulary has long pieces
    wide = Tokenizer(lambda text: [0] * (len(text) // 80), [b" " * 80], {}, frozenset({1}), None)
    assert len(build(wide, blank, "", 600).ids) == 600


def test_in_a_long_file_prompts_begin_alike_while_the_user_types() -> None:
    starts = []
    for typed in range(200):
        prompt = build(BYTES, CODE + "x" * typed, "", 1000)
        assert 500 < len(prompt.ids) <= 1000 and prompt.cut
        text = BYTES.decode(prompt.ids)
        starts.append(CODE.rindex(text.rstrip("x")))
        assert CODE[: starts[-1]].count("\n") % 16 == 0 and CODE[starts[-1] - 1] == "\n"
    assert len(set(starts)) <= 2

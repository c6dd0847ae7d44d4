"""A validator of one's own: any rule that can say how much of a text may follow."""

from validators import Problem, TokenValidator, Unit, Verdict

SHOUTING = str.isupper


class Quiet:
    """Accepts text without upper-case letters. Its state is the number of characters so far."""

    def start(self, prefix: str, suffix: str = "") -> int:
        return len(prefix)

    def problems(self, state: int) -> tuple[Problem, ...]:
        return ()

    def check(self, state: int, text: str) -> Verdict[int]:
        loud = next((i for i, character in enumerate(text) if SHOUTING(character)), None)
        if loud is None:
            return Verdict(len(text), state + len(text), None)
        return Verdict(loud, state + loud, f"{text[loud]!r} is upper case")

    def complete(self, state: int) -> bool:
        return True

    def closing(self, state: int) -> str | None:
        return ""

    def unit_end(self, state: int, unit: Unit) -> bool:
        return False


pieces = [b"hello", b" World", b" world", None]  # what the ids 0 ... 3 stand for; None is no text
quiet = TokenValidator(Quiet(), pieces)
start = quiet.start("")

assert quiet.accept_block(start, [0, 2, 1])[0] == 2, "two of the three tokens may follow"
assert quiet.accept_block(start, [3])[0] == 0, "a special token never may"
print(Quiet().check(0, "hello World").reason)

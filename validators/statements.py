"""One logical line under the rules of ``compile``: see ``validators.compiling``."""

from __future__ import annotations

from dataclasses import dataclass, field

from validators.clauses import KEYWORDS, parts, patterns, plain, stars
from validators.lexemes import Token
from validators.rules import Version
from validators.scopes import Dead, Level

__all__ = ["Statement"]


_SCOPES = ("module", "def", "async", "class")
_HEADERS = frozenset(
    ("if", "elif", "else", "while", "for", "with", "try", "except", "finally", "def", "class", "match", "case")
)
_FEATURES = {
    "nested_scopes", "generators", "division", "absolute_import", "with_statement", "print_function",
    "unicode_literals", "barry_as_FLUFL", "generator_stop", "annotations",
}  # fmt: skip
_UNCOUNTED = frozenset(("match", "case", "type", "_"))  # names that may be keywords


@dataclass
class _Bracket:
    """An open bracket: what has been named in it."""

    call: bool
    parameters: bool
    names: set[str] = field(default_factory=set)
    awaited: Token | None = None
    """An ``await`` that only a generator around it can allow."""
    loops: bool = False
    """It holds a comprehension."""


class Statement:
    """Reads the tokens of a line once. ``levels``, ``opened`` and ``early`` are then what they are behind it."""

    def __init__(self, version: Version, levels: tuple[Level, ...], early: bool, unfinished: list[Token]) -> None:
        self._version = version
        self._unfinished = unfinished
        self.levels = list(levels)
        self.opened: Level | None = None
        self.early = early

    def read(self, tokens: list[Token]) -> None:
        """Raises Dead."""
        begin = [*tokens, *self._unfinished][0]
        top = self.levels[-1]
        if top.last == "shut" and begin.kind != "line":
            raise Dead(begin.start, "wildcard makes remaining patterns unreachable")
        if not tokens:
            return
        first = tokens[0].text
        self._asynchronous(tokens)
        self._partners(tokens)
        header = self._header(tokens)
        body = tokens
        if header or first in _HEADERS or first in ("async", "@"):
            self.early = False
        if header:
            word = "async" if first == "async" else first
            head, body = tokens[: header + 1], tokens[header + 1 :]
            self._simple(head, header=True)
            level = self._opens(head, word)
            if body and body[0].kind == "line":
                self.opened = level
                body = []
            else:
                self.levels.append(level)
        elif (first in _HEADERS and first not in ("match",)) or first == "async":
            self._simple(tokens, header=True)
            return
        for part in parts(body):
            self._simple(part, header=False)
        if header and body:
            self._leave(self.levels.pop())

    def _leave(self, level: Level) -> None:
        """What a body on the header's own line adds to the scope around it."""
        if level.kind not in _SCOPES:
            scope = self._scope()
            yields, returns = self.levels[scope].yields or level.yields, self.levels[scope].returns or level.returns
            self.levels[scope] = self.levels[scope]._replace(yields=yields, returns=returns)

    def _scope(self) -> int:
        """Place of the innermost scope in ``levels``."""
        return next(at for at in reversed(range(len(self.levels))) if self.levels[at].kind in _SCOPES)

    def _header(self, tokens: list[Token]) -> int:
        """Place of the colon that ends a compound statement's header; 0 where there is none (yet)."""
        first = tokens[0].text
        if tokens[0].kind != "name" or (first not in _HEADERS and first != "async"):
            return 0
        if first == "match" and not (tokens[-1].kind == "line" and tokens[-2].text == ":" and tokens[-2].depth == 0):
            return 0
        if first == "case" and self.levels[-1].kind != "match":
            return 0
        lambdas = 0
        for at, token in enumerate(tokens):
            if token.depth == 0 and token.text == "lambda":
                lambdas += 1
            elif token.depth == 0 and token.text == ":":
                if not lambdas:
                    return at
                lambdas -= 1
        return 0

    def _opens(self, head: list[Token], word: str) -> Level:
        if word == "async":
            word = head[1].text if len(head) > 1 else ""
            kind = {"def": "async", "for": "loop"}.get(word, "other")
        else:
            star = word == "except" and len(head) > 1 and head[1].text == "*"
            kinds = {"def": "def", "class": "class", "for": "loop", "while": "loop", "match": "match"}
            kind = "except*" if star else kinds.get(word, "other")
        parameters = frozenset(self._parameters) if kind in ("def", "async") else frozenset[str]()
        return Level(-1, kind, parameters=parameters)

    def _asynchronous(self, tokens: list[Token]) -> None:
        """Outside of functions that are, ``async`` begins one of them."""
        both = [*tokens, *self._unfinished]
        if len(both) > 1 and both[0].text == "async" and self.levels[self._scope()].kind != "async":
            for at, (got, wanted) in enumerate(zip(both[1].text, "def", strict=False)):
                if got != wanted:
                    raise Dead(both[1].start + at, f"'async {both[1].text}' outside async function")

    def _partners(self, tokens: list[Token]) -> None:
        """Handlers behind one that takes everything, cases behind one that does."""
        top, first = self.levels[-1], tokens[0]
        last = ""
        if first.text == "except":
            if top.last == "bare":
                raise Dead(first.end, "default 'except:' must be last")
            if len(tokens) > 1 and tokens[1].text == ":":
                last = "bare"
        elif first.text == "case" and top.kind == "match":
            seen = [*tokens, *self._unfinished]
            texts = [token.text for token in seen[1:3]]
            if len(texts) == 2 and tokens[1].kind == "name" and tokens[1].text not in KEYWORDS:
                if texts[1] == "|":
                    raise Dead(seen[2].start, "this pattern makes the alternatives behind it unreachable")
                last = "shut" if texts[1] == ":" else ""
            patterns(seen[1:])
        self.levels[-1] = top._replace(last=last)

    def _simple(self, tokens: list[Token], header: bool) -> None:
        """A simple statement, or a header."""
        if not tokens:
            return
        first = tokens[0]
        if not header:
            self._flow(tokens)
            self._future(tokens)
            self._declared(tokens)
            stars(tokens, self._unfinished)
        self._expressions(tokens, header)
        if first.kind != "line":
            self._count(tokens, header)

    def _flow(self, tokens: list[Token]) -> None:
        first, scope = tokens[0], self._scope()
        kind = self.levels[scope].kind
        inside = [level.kind for level in self.levels[scope + 1 :]]
        if first.text == "return":
            if kind not in ("def", "async"):
                raise Dead(first.end, "'return' outside function")
            if "except*" in inside:
                raise Dead(first.end, "'return' in an 'except*' block")
            value = [*tokens, *self._unfinished][1:2]
            if value and value[0].kind != "line" and value[0].text != ";":
                if kind == "async" and self.levels[scope].yields:
                    raise Dead(value[0].start, "'return' with value in async generator")
                self.levels[scope] = self.levels[scope]._replace(returns=True)
        elif first.text in ("break", "continue"):
            loops = [at for at, each in enumerate(inside) if each == "loop"]
            if not loops:
                raise Dead(first.end, f"{first.text!r} outside loop")
            if "except*" in inside[loops[-1] :]:
                raise Dead(first.end, f"{first.text!r} in an 'except*' block")

    def _future(self, tokens: list[Token]) -> None:
        texts = [token.text for token in tokens]
        if texts[:2] == ["from", "__future__"]:
            if not self.early:
                raise Dead(tokens[1].end, "from __future__ imports must occur at the beginning of the file")
            names = [token for token in [*tokens, *self._unfinished][3:] if token.kind == "name"]
            for at, token in enumerate(names):
                if token.text == "as" or (at and names[at - 1].text == "as"):
                    continue
                known = len(token.text)
                while not any(feature.startswith(token.text[:known]) for feature in _FEATURES):
                    known -= 1
                if known < len(token.text) or (token.text not in _FEATURES and token in tokens):
                    raise Dead(token.start + known, f"future feature {token.text} is not defined")
        elif len(texts) > 1 or tokens[0].text != "from":
            self.early = self.early and all(token.kind in ("str", "line") for token in tokens)
        seen = [*tokens, *self._unfinished]
        stars = texts[0] == "from" and "import" in texts and seen[texts.index("import") + 1 :][:1]
        if stars and stars[0].text == "*" and self._scope():
            raise Dead(stars[0].start, "import * only allowed at module level")

    def _declared(self, tokens: list[Token]) -> None:
        """``global`` and ``nonlocal``."""
        first = tokens[0]
        if first.text not in ("global", "nonlocal"):
            return
        place = self._scope()
        scope = self.levels[place]
        around = [level.kind for level in self.levels[:place]]
        if first.text == "nonlocal":
            if scope.kind == "module":
                raise Dead(first.end, "nonlocal declaration not allowed at module level")
            if "def" not in around and "async" not in around:
                if "class" not in around:
                    raise Dead(first.end, "nonlocal without a function around this one")
                for token in [*tokens, *self._unfinished][1:]:  # a class has one name that its methods do not bind
                    if token.kind == "name" and token.text != "__class__":
                        shared = next(
                            n
                            for n in range(10)
                            if not "__class__".startswith(token.text[: n + 1]) or n == len(token.text)
                        )
                        if shared < len(token.text) or token in tokens:
                            raise Dead(token.start + shared, f"no binding for nonlocal {token.text!r} found")
        for token in tokens[1:]:
            name = plain(token.text)
            if token.kind != "name" or (name.startswith("__") and not name.endswith("__")):
                continue
            if name in scope.parameters:
                raise Dead(token.end, f"name {name!r} is parameter and {first.text}")
            if name in scope.names:
                raise Dead(token.end, f"name {name!r} is used prior to {first.text} declaration")

    def _expressions(self, tokens: list[Token], header: bool) -> None:
        """Arguments, parameters, ``yield``, ``await``, ``__debug__``."""
        place = self._scope()
        scope = self.levels[place]
        first = tokens[0].text if tokens[0].text != "async" or len(tokens) < 2 else tokens[1].text
        self._parameters: set[str] = set()
        brackets: list[_Bracket] = []
        lambdas: list[tuple[int, set[str]]] = []  # depth, parameters
        lambda_seen = False
        for at, token in enumerate(tokens):
            before = tokens[at - 1] if at else None
            text = token.text
            previous = before.text if before else ""
            following = tokens[at + 1].text if at + 1 < len(tokens) else ""
            if token.kind == "op":
                if text in "([{" and len(text) == 1:
                    callable_ = before is not None and (
                        (before.kind == "name" and before.text not in KEYWORDS)
                        or before.text in (")", "]")
                        or before.kind == "str"
                    )
                    defines = header and first == "def" and token.depth == 0 and not brackets and text == "("
                    brackets.append(_Bracket(text == "(" and callable_ and not defines, defines))
                elif text in ")]}" and len(text) == 1 and brackets:
                    closed = brackets.pop()
                    if closed.awaited is not None:
                        raise Dead(token.start, "'await' outside async function")
                    if closed.parameters:
                        self._parameters = closed.names
                elif text == ":" and lambdas and lambdas[-1][0] == token.depth:
                    lambdas.pop()
                continue
            if token.kind != "name":
                continue
            name = plain(text)
            if text == "lambda":
                lambdas.append((token.depth, set()))
                lambda_seen = True
            elif text == "yield":
                self._yield(token, tokens[at + 1 : at + 2], place, lambda_seen)
                scope = self.levels[place]
            elif text == "await" and scope.kind != "async" and not lambda_seen:
                if any(bracket.loops for bracket in brackets):
                    continue  # part of a generator, perhaps
                if not brackets:
                    why = "'await' outside async function" if scope.kind == "def" else "'await' outside function"
                    raise Dead(token.end, why)
                if all(bracket.awaited is None for bracket in brackets):
                    brackets[0].awaited = token
            elif text == "for" and brackets:
                brackets[-1].loops, brackets[-1].call = True, False
                for bracket in brackets:
                    bracket.awaited = None
            elif text in KEYWORDS:
                continue
            elif lambdas and lambdas[-1][0] == token.depth and previous in ("lambda", ",", "*", "**"):
                self._parameter(token, name)
                if name in lambdas[-1][1]:
                    raise Dead(token.end, f"duplicate argument {name!r} in function definition")
                lambdas[-1][1].add(name)
            elif brackets and brackets[-1].parameters and previous in ("(", ",", "*", "**"):
                self._parameter(token, name)
                if name in brackets[-1].names:
                    raise Dead(token.end, f"duplicate argument {name!r} in function definition")
                brackets[-1].names.add(name)
            elif brackets and brackets[-1].call and previous in ("(", ","):
                keywords = brackets[-1].names
                if name in keywords and not lambdas and following in ("", "="):
                    raise Dead(token.end, f"keyword argument repeated: {name}")
                if following == "=":
                    keywords.add(name)
            if name == "__debug__" and self._version >= (3, 9):
                self._debug(token, previous, [*tokens[at + 1 :], *self._unfinished][:1], first)

    def _parameter(self, token: Token, name: str) -> None:
        if name == "__debug__" and self._version >= (3, 9):
            raise Dead(token.end, "cannot assign to __debug__")

    def _yield(self, token: Token, following: list[Token], place: int, lambda_seen: bool) -> None:
        scope = self.levels[place]
        if lambda_seen:
            return
        if scope.kind not in ("def", "async"):
            raise Dead(token.end, "'yield' outside function")
        if scope.kind == "async":
            if following and following[0].text == "from":
                raise Dead(following[0].end, "'yield from' inside async function")
            if scope.returns:
                raise Dead(token.end, "'return' with value in async generator")
        self.levels[place] = scope._replace(yields=True)

    def _debug(self, token: Token, previous: str, after: list[Token], first: str) -> None:
        """``__debug__`` where a name is bound."""
        why = "cannot assign to __debug__"
        following = after[0].text if after else ""
        imported = first == "import" and previous in ("import", ",")
        if imported or previous in ("def", "class") or (previous == "as" and first != "with"):
            raise Dead(token.end, why)
        if not after:
            return
        if previous == "as" and following not in (".", "(", "["):
            raise Dead(after[0].start, why)
        if following == "=" and after[0] not in self._unfinished:
            raise Dead(after[0].end, why)
        if following.endswith("=") and following not in ("=", "==", "!=", "<=", ">="):
            raise Dead(after[0].end - 1, why)

    def _count(self, tokens: list[Token], header: bool) -> None:
        """Notes the names that are used for certain: not in scopes of their own, not as attributes or keywords."""
        first = tokens[0].text
        place = self._scope()
        names = set[str]()
        if first in ("import", "from", "global", "nonlocal", "type", "case", "match", "@"):
            return
        if first in ("def", "class") or (first == "async" and len(tokens) > 1 and tokens[1].text == "def"):
            at = 1 if first != "async" else 2
            names = {plain(tokens[at].text)} if len(tokens) > at and tokens[at].kind == "name" else names
        elif not any(token.text == "lambda" or (token.text == "for" and token.depth) for token in tokens):
            for at, token in enumerate(tokens):
                following = tokens[at + 1].text if at + 1 < len(tokens) else ""
                if token.text == ":" and token.depth == 0 and not header:
                    break
                if token.kind != "name" or token.text in KEYWORDS or token.text in _UNCOUNTED:
                    continue
                if (at and tokens[at - 1].text == ".") or (following == "=" and token.depth):
                    continue
                names.add(plain(token.text))
        names = {name for name in names if not name.startswith("__") or name.endswith("__")}
        if names:
            scope = self.levels[place]
            self.levels[place] = scope._replace(names=scope.names.adding(frozenset(names)))

"""A grammar looser than Python's, as data, and texts drawn from it: what a rule of CPython's decides about.

One alternative to a line; those before ``--`` end the recursion. ``<x>`` is a rule, ``<x*>`` up to three of them
with commas, ``<x?>`` one or nothing. ``·`` stands for a blank of some kind or none, ``↵`` for a new line
with the indentation of the statement, ``<block>`` for a statement's body.
"""

from __future__ import annotations

import random
import re

_RULES = {
    "e": r"""
<name>
<name>
<number>
<atom>
<string>
--
<e>·<operator>·<e>
<prefix><e>
(<e*>)
(·<e>)
[<e*>]
{<e*>}
{<pair*>}
<e>(<argument*>)
<name>(<argument*>)
<e>[<slice*>]
<e>.<name>
lambda <parameter*>:·<e>
<e>·if <e> else <e>
(<e> <loop>)
[<e> <loop>]
{<e> <loop>}
{<e>:<e> <loop>}
<name>(<e> <loop>)
<name>(<e> <loop>, <e?>)
(<e> := <e>)
<name> := <e>
<yield><e>
<string>·<string>
<string>
""",
    "name": "a\nb\nf\nr\nt\nu\nx\nrb\nprint\nmatch\ncase\ntype\n_\n__debug__\nﬁ\nª\nℌ\n𝔦𝔣\nnonlocals\nexec"
    "\n\U00030000\n\u0870\n\U00031350\n\ua7cb\nx\u1acf",
    "atom": "None\nTrue\n...\n()\n[]\n{}",
    "operator": (
        "+\n-\n*\n/\n//\n%\n@\n**\n<<\n>>\n&\n|\n^\n<\n>\n==\n!=\n<=\n>=\n<>\n=\n:=\n.\n->"
        "\n!\n in \n is \n is not \n not in \n and \n or \n not "
    ),
    "prefix": "-\nnot \n~\nawait \n*\n**\n+",
    "yield": "yield \nyield from \n(yield)\nyield *",
    "pair": "<e>:·<e>\n**<e>\n<e>\n*<e>",
    "slice": "<e>\n<e>:<e>\n:\n::<e>\n*<e>\n<e>::",
    "loop": "for <target> in <e>\nasync for <target> in x\n--\nfor <target> in <e> if <e>\nfor <target> in <e> <loop>",
    "target": "<name>\n--\n<e>\n<name>, <e>\n<e*>",
    "argument": "<e>\n--\n<name>=<e>\n*<e>\n**<e>\n<e>=<e>",
    "parameter": (
        "<name>\n--\n<name>\n<name>=<e>\n*\n/\n*<name>\n**<name>\n<name>:<e>\n<name>:<e>=<e>\n*<name>:*<e>\n*<name>=<e>"
        "\n(<name>)\n*<name>:<e>"
    ),
    "types": "\n--\n[<type*>]",
    "type": (
        "T\n--\n*T\n**T\nT:int\nT=int\n*T=*x\n*T=x\n**T=x\nT:int=x\n*T:int\nT:(yield)\nT=(x:=1)\n*T=x,y\nT:<e>\nT=<e>"
    ),
    "pattern": r"""
<name>
<number>
None
*_
*x
x.y
_.x
-1
-x
1+2j
<string>
--
(<pattern*>)
[<pattern*>]
<pattern>|<pattern>
<pattern> as <captured>
<class>(<member*>)
{<item*>}
<number>+<number>
<number>-<number>
""",
    "captured": "x\n_\nx.y\n(x)\nmatch",
    "class": "x\nx.y\n_\nx()\n1\nmatch",
    "member": "<pattern>\nx=<pattern>\nx.y=<pattern>\n**x",
    "item": "<pattern>:<pattern>\n**x\n**_\nx.y:<pattern>\n*x\n'a':<pattern>",
    "statement": r"""
<e>
<word>
--
<e>
<e*> = <e>
<e> = <e*> = <yield?><e>
<e>: <e>
<e>: <e> = <yield?><e*>
<e> <augmented> <yield?><e*>
del <e*>
return <e*>
raise <e> from <e>
assert <e>, <e>
import <module*>
from <dots><module> import <imported>
from <dots> import <imported>
global <name*>
nonlocal <name*>
type <name><types> = <e>
print <e>
match <e>
<soft><soften>
""",
    "word": "pass\nbreak\nreturn\nraise\ncontinue\ndel\nglobal\nimport",
    "augmented": "+=\n-=\n**=\n//=\n>>=\n@=\n|=\n:=\n=",
    "module": "x\nx.y\nx as y\nx.y as z\n.x\n__debug__",
    "dots": ".\n..\n...\n....\n. .\n",
    "imported": "*\nx\n<alias*>\n(<alias*>)",
    "alias": "x\nx as y\nmatch\ntype as case\nx.y\n*\n__debug__",
    "soft": "match\ncase\ntype\nmatch \ntype ",
    "soften": "(x)\n[x]\n*x\n-x\n=x\n.x\n: x\n, x\n = 1",
    "compound": r"""
if <e>:<block><else>:<block>
while <e>:<block><else>:<block>
<async>for <target> in <e*>:<block>
try:<block><handler>:<block>
try:<block><handler>:<block><handler>:<block>
<async>with <context*>:<block>
<async>with (<context*>)<after>:<block>
<async>def <name><types>(<parameter*>)<result>:<block>
class <name><types>(<argument*>):<block>
class <name>:<block>
@<e>↵<decorated>:<block>
match <e*>:<cases>
""",
    "async": "\n\nasync ",
    "else": "else\nelif x\nexcept\nfinally\ncase x\npass",
    "handler": (
        "except\nexcept <e>\nexcept x\nexcept*x\nexcept* x as y\nexcept x, y\nexcept x as y\nexcept x, y as z\nelse"
        "\nfinally\nexcept (x, y) as z\nexcept*\nexcept* x, y"
    ),
    "context": "<e>\n<e> as <e>\n<e> as <name>\n(<e> as <name>)",
    "after": "\n\n as x\n, y\n.x\n + y",
    "result": "\n -> x\n -> <e>",
    "decorated": "def f()\nclass c\nasync def f()\nif x\n@x\nasync for x in y",
    "guard": "\n\n if <e>\n, <pattern>\n,",
    "number": (
        "0\n1\n1.5\n1j\n00\n01\n0_0\n1_0\n1__0\n1_\n09.5\n09e1\n09j\n1.\n.1\n1.e1\n1e5\n1E+_5\n0x\n0xfor\n0b1\n0b12\n0o7"
        "\n0o8\n0xF_f\n0x_1\n1.5J\n1jif\n0in\n1or\n01else\n1_000and\n1e5or\n0b1or\n1.real\n1..real\n0xfj\n1if\n1not\n1is"
    ),
}
_TAME = {
    "operator": ("+", "-", "*", "**", "<<", "|", "<", "==", "!=", " in ", " is not ", " and ", " or "),
    "name": ("a", "f", "x", "match", "type", "_", "case"),
    "number": ("0", "1", "1.5", "1j"),
    "string": ("''", '"a"', "b'x'", "f'{x}'", "r'\\'"),
}
"""What stands for a rule most of the time, so that more of the texts parse."""
_BLANKS = (*" " * 6, "", "", "\t", "\f", "\\\n", " \\\n", "\\\r\n", "\\\r", " # c\n", "\n", "\r", "\\ \n")
_PART = re.compile(r"<(\w+)([*?]?)>|·|↵")


def _alternatives(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that end the recursion, and all others."""
    if text.startswith("\n") and text.endswith("\n"):
        text = text[1:-1]
    leaves, dashes, others = text.partition("--\n")
    first = tuple((leaves.removesuffix("\n") if dashes else leaves).split("\n"))
    return first, tuple(others.split("\n")) if dashes else first


_GRAMMAR = {rule: _alternatives(text) for rule, text in _RULES.items()}


class Loose:
    """Draws texts; the same `rng` gives the same ones."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._budget = 0
        self._tidy = True

    def program(self) -> str:
        self._budget = self._rng.choice((3, 6, 12, 30))
        self._tidy = self._rng.random() < 0.7
        return "".join(self._line("") for _ in range(self._rng.randint(1, 3)))

    def expression(self, budget: int) -> str:
        self._budget = budget
        return self._draw("e", "")

    def string(self) -> str:
        """A string literal; the soup has more of them."""
        return self._rng.choice(("''", '"a"', "b'x'", "f'{x}'", "'''a'''", "r'\\'"))

    def _draw(self, rule: str, indent: str) -> str:
        if rule == "block":
            return self._block(indent)
        if rule == "cases":
            count = self._rng.randint(1, 2)
            cases = (self._draw("pattern", indent) + self._draw("guard", indent) for _ in range(count))
            return "\n" + "".join(f"{indent} case {case}:{self._block(indent + ' ')}" for case in cases)
        if rule in _TAME and self._tidy and self._rng.random() < 0.85:
            return self._rng.choice(_TAME[rule])
        if rule == "string":
            return self.string()
        self._budget -= 1
        leaves, others = _GRAMMAR[rule]
        chosen = self._rng.choice(others if self._budget > 0 and self._rng.random() < 0.75 else leaves)
        return _PART.sub(lambda part: self._part(part, indent), chosen)

    def _part(self, part: re.Match[str], indent: str) -> str:
        if part[0] == "·":
            odd = not self._tidy or self._rng.random() < 0.05
            return self._rng.choice(_BLANKS) if odd else self._rng.choice((" ", " ", ""))
        if part[0] == "↵":
            return f"\n{indent}"
        count = {"": 1, "?": self._rng.randint(0, 1), "*": self._rng.choice((0, 1, 1, 2, 3))}[part[2]]
        comma = "," if part[2] == "*" and self._rng.random() < 0.2 else ""
        return ",".join(self._draw(part[1], indent) for _ in range(count)) + comma

    def _line(self, indent: str) -> str:
        if self._budget > 2 and self._rng.random() < 0.35:
            return indent + self._draw("compound", indent)
        end = "\n" if self._tidy else self._rng.choice(("\n", "\n", ";\n", "; pass\n", "\r\n", " # c\n", ""))
        return indent + self._draw("statement", indent) + end

    def _block(self, indent: str) -> str:
        if self._rng.random() < 0.3:
            return self._rng.choice((" ", "")) + self._draw("statement", indent) + f"\n{indent}"
        deeper = indent + self._rng.choice(("  ", "    ", "\t", " "))
        return "\n" + "".join(self._line(deeper) for _ in range(self._rng.randint(1, 2))) + indent

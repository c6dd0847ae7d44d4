"""The grammar of Python 3.8 to 3.14 as data: logical lines, statements, expressions, patterns.

Notation: ``'x'`` is a keyword or operator, an upper-case word a terminal of the scanner, ``$word`` an outcome (what the
line was, read after its NEWLINE), a lower-case word a rule; ``_word`` is inlined where it is used. ``NAME`` is any
identifier, ``BOUND`` one that is bound (not ``__debug__`` in 3.8), ``CAPTURE`` one that a pattern binds (not '_').
``{3.9..}``, ``{..3.9}`` and ``{3.10..3.12}`` in front of an alternative keep it for those versions only. A rule that is
marked with ``%`` is a list whose items end in ',' and whose last ',' may be left out. ``unstarred`` is any expression
but `(*x)`, which 3.8 takes as an operand and refuses in front of a comprehension's `for`.

The rules say what ``ast.parse`` accepts, so every target, argument and parameter rule that CPython checks while it
parses is a nonterminal here. Written after the language reference and CPython's parser; left recursion is a loop,
precedence inside one operand chain is left out because only recognition counts. The ``flat`` rules are expressions
without a bare lambda: directly in a replacement field a ':' begins the format. ``other`` is what is no target: since
3.9 the parser takes a target in brackets at a line's beginning for all that is annotated, so `(x)[0]: y` is wrong.
"""

from __future__ import annotations

__all__ = ["GRAMMAR", "HEADERS"]

# Compound-statement headers: kind -> text before ':'. A line of the kind either carries its body or opens a block.
HEADERS = {
    "if": "'if' _named",
    "elif": "'elif' _named",
    "else": "'else'",
    "loop": "'while' _named | ['async'] 'for' star_targets 'in' _iterables",
    "with": "['async'] 'with' with_items",
    "def": "['async'] 'def' BOUND [{3.12..} type_params] '(' params ')' ['->' expression]",
    "class": "'class' BOUND [{3.12..} type_params] ['(' arguments ')']",
    "try": "'try'",
    "except": "'except' [expression ['as' BOUND]] | {3.14..} 'except' expressions",
    "except_star": "{3.11..} 'except' '*' expression ['as' BOUND] | {3.14..} 'except' '*' expressions",
    "try_else": "'else'",
    "finally": "'finally'",
    "case": "'case' patterns ['if' _named]",
}

_STATEMENTS = """
line: simple_line | if_line | loop_line | with_line | def_line | class_line | try_line | decorator_line
    | {3.10..} match_line
decorated: def_line | class_line | decorator_line
match_line: 'match' subject ':' NEWLINE $match+
decorator_line: '@' _decorator NEWLINE $decorator
_decorator: {..3.8} dotted_name ['(' [arguments | _generator] ')'] | {3.9..} _named
simple_line: _simple_statements NEWLINE $simple
blank_line: NEWLINE $simple
_simple_statements: statement (';' statement)* [';']

statement: expression_statement | 'return' [star_expressions] | 'raise' [expression ['from' expression]]
    | 'pass' | 'break' | 'continue' | 'del' del_targets | 'assert' expression [',' expression]
    | 'global' NAME (',' NAME)* | 'nonlocal' NAME (',' NAME)* | import_statement
    | {3.12..} 'type' NAME [type_params] '=' expression
expression_statement: star_expressions | yield_expression
    | single_target AUGASSIGN _augmented | _annotated_target ':' expression ['=' _right]
    | star_targets '=' (star_targets '=')* _right
_right: yield_expression | star_expressions
_augmented: yield_expression | {..3.8} expressions | {3.9..} star_expressions
_iterables: {..3.8} expressions | {3.9..} star_expressions

import_statement: 'import' _dotted_as (',' _dotted_as)* | 'from' ('.' | '...')* dotted_name 'import' _imported
    | 'from' ('.' | '...') ('.' | '...')* 'import' _imported
_dotted_as: BOUND | NAME '.' dotted_name | dotted_name 'as' BOUND
dotted_name: NAME ('.' NAME)*
_imported: '*' | '(' _name_as (',' _name_as)* [','] ')' | _name_as (',' _name_as)*
_name_as: BOUND | NAME 'as' BOUND

with_items: _with_item (',' _with_item)* | {3.9..} '(' _with_item (',' _with_item)* [','] ')'
_with_item: expression ['as' _with_target]
_with_target: {..3.8} target | {3.9..} star_target

params%: ( (_p ',')+ '/' ',' (_p ',')* (_d ',')* | (_p ',')* (_d ',')+ '/' ',' (_d ',')* | (_p ',')* (_d ',')* )
    [ '*' _v ',' (_p ',' | _d ',')* ['**' _p ','] | '*' ',' (_p ',' | _d ',')+ ['**' _p ','] | '**' _p ',' ]
_p: BOUND [':' expression]
_d: _p '=' expression
_v: _p | {3.11..} BOUND ':' '*' bitor
lambda_params%: ( (BOUND ',')+ '/' ',' (BOUND ',')* (_ld ',')* | (BOUND ',')* (_ld ',')+ '/' ',' (_ld ',')*
    | (BOUND ',')* (_ld ',')* )
    [ '*' BOUND ',' (BOUND ',' | _ld ',')* ['**' BOUND ','] | '*' ',' (BOUND ',' | _ld ',')+ ['**' BOUND ',']
    | '**' BOUND ',' ]
_ld: BOUND '=' expression
type_params: '[' _type_param (',' _type_param)* [','] ']'
_type_param: NAME [':' expression] [{3.13..} '=' expression] | '*' NAME [{3.13..} '=' _star_expression]
    | '**' NAME [{3.13..} '=' expression]
"""

_EXPRESSIONS = """
expressions: expression (',' expression)* [',']
star_expressions: _star_expression (',' _star_expression)* [',']
_star_expression: '*' bitor | expression
yield_expression: 'yield' 'from' expression | 'yield' [star_expressions]
_named: _bound ':=' expression | expression
_bound: BOUND | {..3.8} '(' bound_group ')'
bound_group: BOUND | '(' bound_group ')'
expression: _disjunction ['if' _disjunction 'else' expression] | 'lambda' lambda_params ':' expression
disjunction: _disjunction
_disjunction: _inversion (('and' | 'or') _inversion)*
_inversion: ('not')* _operand ((_arithmetic | _comparison) _operand)*
bitor: _operand (_arithmetic _operand)*
_arithmetic: '|' | '^' | '&' | '<<' | '>>' | '+' | '-' | '*' | '/' | '//' | '%' | '@' | '**'
_comparison: '<' | '>' | '==' | '>=' | '<=' | '!=' | 'in' | 'not' 'in' | 'is' ['not']
_operand: ('+' | '-' | '~')* ['await'] (NAME | _other_atom) _trailer*
_trailer: '.' NAME | '(' [arguments | _generator] ')' | '[' slices ']'
_other_atom: _closed_atom | '(' [group] ')'
_closed_atom: NUMBER | IMAGINARY | strings | '...' | 'None' | 'True' | 'False' | '[' [list_items] ']'
    | '{' [set_items | dict_items] '}'

group: yield_expression | _named (',' _star_named)* [','] | _looped_named for_ifs
    | '*' bitor (',' _star_named)+ [','] | '*' bitor ',' | {..3.8} '*' bitor
list_items: _star_named (',' _star_named)* [','] | _looped_named for_ifs
_star_named: '*' bitor | _named
set_items: _set_item (',' _set_item)* [','] | {..3.8} unstarred for_ifs | {3.9..} _named for_ifs
_set_item: '*' bitor | _set_element
_set_element: {..3.8} expression | {3.9..} _named
dict_items: _pair (',' _pair)* [','] | expression ':' expression for_ifs
_pair: expression ':' expression | '**' bitor
for_ifs: _for_if _for_if*
_for_if: ['async'] 'for' star_targets 'in' disjunction ('if' _condition)*
_condition: {..3.8} condition | {3.9..} disjunction
condition: _disjunction | 'lambda' lambda_params ':' condition
_looped_named: {..3.8} _bound ':=' expression | {..3.8} unstarred | {3.9..} _named
unstarred: _unstarred | _disjunction 'if' _disjunction 'else' expression | 'lambda' lambda_params ':' expression
_unstarred: 'not' disjunction | ('+' | '-' | '~') _operand _more* | ['await'] (NAME | _closed_atom) _trailer* _more*
    | 'await' '(' [group] ')' _trailer* _more* | '(' ')' _trailer* _more* | '(' unstarred_group ')' _trailer* _more*
    | '(' group ')' (_trailer _trailer* | _more) _more*
_more: (_arithmetic | _comparison) _operand | ('and' | 'or') _inversion
unstarred_group: yield_expression | _looped_named [for_ifs] | _named ',' [_star_named (',' _star_named)* [',']]
    | '*' bitor ',' [_star_named (',' _star_named)* [',']]
slices: _slice (',' _slice)* [',']
_slice: [expression] ':' [expression] [':' [expression]] | {..3.9} expression | {3.10..} _named
    | {3.11..} '*' expression

arguments%: (_positional ',')* (_keyword ',')* (_double ',')*
_positional: '*' expression | _named
_keyword: BOUND '=' expression | '*' expression
_double: BOUND '=' expression | '**' expression
_generator: {..3.8} unstarred for_ifs | {3.9..} _named for_ifs

star_targets: star_target (',' star_target)* [',']
star_target: ['*'] target
target: _reference | '(' target ')' | '(' [target_tuple] ')' | '[' [star_targets] ']' | {..3.8} '(' '*' target ')'
target_tuple: star_target ',' [star_target (',' star_target)* [',']]
single_target: _reference | '(' single_target ')'
_annotated_target: {..3.8} single_target
    | {3.9..} BOUND [reference_tail] | '(' single_target ')' | (_closed_atom | '(' [other_group] ')') reference_tail
_reference: BOUND [reference_tail] | {..3.8} '__debug__' reference_tail | _other_atom reference_tail
other_group: yield_expression | _named (',' _star_named)+ [','] | _named ',' | _bound ':=' expression
    | _looped_named for_ifs | '*' bitor (',' _star_named)+ [','] | '*' bitor ',' | other
other: _disjunction 'if' _disjunction 'else' expression | 'lambda' lambda_params ':' expression
    | _inversion (('and' | 'or') _inversion)+ | 'not' _inversion
    | _operand ((_arithmetic | _comparison) _operand)+ | ('+' | '-' | '~') _operand
    | ('+' | '-' | '~')* 'await' (NAME | _other_atom) _trailer* | _closed_atom | '(' [other_group] ')'
    | (NAME | _other_atom) _trailer* '(' [arguments | _generator] ')'
reference_tail: _trailer* ('.' BOUND | '[' slices ']')
del_targets: _del_item (',' _del_item)* [',']
_del_item: del_target | {..3.8} '*' del_target
del_target: _reference | {..3.8} '__debug__' | '(' del_target ')' | {..3.8} '(' '*' del_target ')'
    | '(' [del_targets] ')' | '[' [del_targets] ']'

strings: (STRING | _f_string) (STRING | _f_string)* | BYTES BYTES* | {3.14..} _t_string _t_string*
_f_string: FSTRING field* FSTRING_END
_t_string: TSTRING field* FSTRING_END
field: 'f{' _field_value ['='] ['f!' CONVERSION] ['f:' field* _behind_line] 'f}'
_behind_line: [ {3.12..3.13} plain_field plain_field* ]
plain_field: '{' (yield_expression | star_expressions) ['='] ['!' CONVERSION] [':' plain_field*] '}'
_field_value: {..3.11} flat_group | {3.12..} flat_yield | {3.12..} flat_expressions
flat_group: flat_yield | flat (',' _flat_star)* [','] | _looped_flat for_ifs | '*' bitor (',' _flat_star)+ [',']
    | '*' bitor ',' | {..3.8} '*' bitor
_looped_flat: {..3.8} _unstarred | {..3.8} _disjunction 'if' _disjunction 'else' flat | {3.9..} flat
flat_yield: 'yield' 'from' flat | 'yield' [flat_expressions]
flat_expressions: _flat_star (',' _flat_star)* [',']
_flat_star: '*' bitor | flat
flat: _disjunction ['if' _disjunction 'else' flat]
"""

_PATTERNS = """
subject: _star_named ',' [_star_named (',' _star_named)* [',']] | _named
patterns: _maybe_star ',' [_maybe_stars] | pattern
_maybe_stars: _maybe_star (',' _maybe_star)* [',']
_maybe_star: '*' NAME | pattern
pattern: _closed ('|' _closed)* ['as' CAPTURE]
_closed: _literal | '_' | CAPTURE ('.' NAME)* ['(' class_arguments ')']
    | '(' [pattern | group_pattern] ')' | '[' [_maybe_stars] ']' | '{' mapping '}'
group_pattern: _maybe_star ',' [_maybe_stars]
_literal: ['-'] NUMBER [('+' | '-') IMAGINARY] | ['-'] IMAGINARY | strings | 'None' | 'True' | 'False'
class_arguments%: (pattern ',')* (NAME '=' pattern ',')*
mapping%: (_key ':' pattern ',')* ['**' CAPTURE ',']
_key: _literal | NAME '.' NAME ('.' NAME)*
"""


def _headers() -> str:
    lines = []
    for kind, head in HEADERS.items():
        alternatives = " | ".join(f"{way} _{kind}_rest" for way in head.split(" | "))
        lines.append(f"{kind}_line: {alternatives}")
        lines.append(f"_{kind}_rest: ':' (NEWLINE ${kind}+ | _simple_statements NEWLINE ${kind})")
    return "\n".join(lines)


GRAMMAR = _STATEMENTS + _EXPRESSIONS + _PATTERNS + _headers()

"""The validation loop of the article that this project began with, corrected.

As published it parses each block of tokens, and so refuses every program that is not finished. Here a block is checked
as what it is, the next part of a text; where it is refused, one token that is accepted takes its place.
"""

import ast

from assistant.v3 import V3Model
from validators import PythonValidator

model = V3Model(num_experts=16, experts_per_group=4, quantization="int4")
model.set_routing_strategy(threshold=0.7, fallback="dense")
model.begin("def add(a, b):\n")
validate_generation = model.validate_generation

accepted = refused = 0
while len(model.tokens) < 48:
    tokens = model.generate_next_batch(3)
    if tokens and validate_generation(tokens):
        accepted += 1
    else:
        refused += 1
        tokens = model.generate_next_token()
    if not tokens:
        break  # the program is complete
    model.accept(tokens)

print(model.text)
print(f"blocks accepted: {accepted}, replaced by one token: {refused}")
print(f"experts of a token, on average: {model.active_experts:.1f} of 16")

# What the loop promises: however good the model is, its text is the beginning of a program.
validator = PythonValidator()
assert validator.check(validator.start(""), model.text).accepted == len(model.text)


def parses(text: str) -> bool:
    """What the article asked instead."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


assert not parses("def add(a, b):\n")  # it would have stopped here, before the first token

"""Many prompts from files, answered row by row, so that a run can be killed at any moment and go on.

Rows that are read:

    {"task_id": …, "prompt": …}                         as in HumanEval; `suffix` may stand beside the prompt
    {"prefix": …, "suffix": …}                          a gap; `task_id` or `id` may name it
    {"custom_id": …, "method": "POST", "url": "/v1/completions", "body": {…}}      an OpenAI batch request
    a Python file that says <CURSOR>

In the end the answers are in the order of the rows; until then, in the order in which they were done. Those to OpenAI
requests have the shape that OpenAI and vLLM give them, with what else is known under `viable`; all others are

    {"task_id", "sample", "completion", "finish_reason", "valid", "reason", "tokens", …, "ms", "seed", "error", "key"}

and those to files also say under `filled` where the completion stands once it is in the file, and the sha256 that the
file then has. A file that is filled has no mark any more; by this a later run knows it again, takes the completion out,
and has the gap and with it the key of the row. So it keeps its row, unless somebody changed the file meanwhile, or the
model or a parameter is another now.

A run that was killed and started again gives the same rows as one that was not, but for the fields that tell the time:
`ms`, and in OpenAI responses `created`. That holds for a limit in milliseconds only as far as the machine keeps time.
It holds whichever rows share a pass over the weights (`model.engine.shared`), and however many they are.
"""

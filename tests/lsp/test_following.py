"""What happens after a suggestion: typing it, taking it, and configuring on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lsp.client import Client, fake_server, insertion

pytestmark = pytest.mark.e2e


def test_typed_as_suggested_is_answered_without_the_session(client: Client) -> None:
    text = "total = sum(values)"
    uri = client.open(f"#> {json.dumps(text)}\n", "typed.py")
    assert client.texts(uri, 1, 0) == [text]
    before = client.stats()
    for column, character in enumerate(text[:-1]):
        client.edit(uri, insertion(1, column, character))
        assert client.texts(uri, 1, column + 1) == [text[column + 1 :]]
    after = client.stats()
    assert after["passes"] == before["passes"]
    assert after["cached"] == before.get("cached", 0) + len(text) - 1


def test_after_a_suggestion_is_taken_the_next_is_there_already(client: Client) -> None:
    uri = client.open('#> "\\nx = 1"\n', "next.py")
    assert client.texts(uri, 0, 13) == ["\nx = 1"]
    before = client.stats()
    client.edit(uri, insertion(0, 13, "\nx = 1"))
    after = client.until(lambda stats: stats["filled"] > before["filled"])
    assert after["prefetched"] == before.get("prefetched", 0) + 1
    assert client.texts(uri, 1, 5) == ["\nx = 1"]
    assert client.stats()["passes"] == after["passes"]


def test_other_text_of_the_same_length_is_no_suggestion_taken(client: Client) -> None:
    """Not even where the file then has fewer lines than with the suggestion."""
    uri = client.open('#> "a = 1\\nb = 2"\n', "other.py")
    assert client.texts(uri, 1, 0) == ["a = 1\nb = 2"]
    client.until(lambda stats: stats["writing"] == 0)  # what follows the suggestion is written ahead
    client.notes.clear()
    passes = client.stats()["passes"]
    client.edit(uri, insertion(1, 0, "c = 3456789"))
    stats = client.stats()
    assert (stats["writing"], stats["passes"]) == (0, passes)
    assert not [note["params"] for note in client.notes if note["method"] == "window/logMessage"]


def test_half_a_suggestion_taken_leaves_the_other_half_in_the_cache(client: Client) -> None:
    uri = client.open('#> "a = 1\\nb = 2"\n', "half.py")
    assert client.texts(uri, 1, 0) == ["a = 1\nb = 2"]
    passes = client.stats()["passes"]
    client.edit(uri, insertion(1, 0, "a = 1"))
    assert client.texts(uri, 1, 5) == ["\nb = 2"]
    assert client.stats()["passes"] == passes


@pytest.mark.parametrize("options", [{"maxTokens": 7}, {"model": "another"}])
def test_other_options_forget_what_was_written_with_the_old_ones(options: dict[str, Any]) -> None:
    with fake_server() as client:
        client.initialize()
        uri = client.open('#> "a = 1"\n')
        assert client.texts(uri, 1, 0) == ["a = 1"]
        passes = client.stats()["passes"]
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {}}})
        assert client.texts(uri, 1, 0) == ["a = 1"]
        assert client.stats()["passes"] == passes
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": options}})
        assert client.texts(uri, 1, 0) == ["a = 1"]
        assert client.stats()["passes"] == 2 * passes
        assert client.close() == 0


def test_next_stop_counts_in_the_clients_units(client: Client) -> None:
    uri = client.open("", "stop.py")
    params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}, "kind": "line"}
    assert client.call("viable/nextStop", {**params, "text": "s = '😀'\nt = 1"}) == {"length": 8}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {
            "textDocument": {"uri": "file:///gone.py"},
            "position": {"line": 0, "character": 0},
            "text": "",
            "kind": "word",
        },
        [1],
    ],
)
def test_a_question_about_nothing_is_refused(client: Client, params: object) -> None:
    assert client.answer(client.request("viable/nextStop", params))["error"]["code"] == -32602


def test_an_excluded_file_is_silent_and_a_new_configuration_is_followed() -> None:
    with fake_server() as client:
        client.initialize(exclude=["**/secrets/*.py"])
        secret = client.open('#> "x = 1"\n', "secrets/key.py")
        public = client.open('#> "x = 1"\n', "public.py")
        assert (client.texts(secret, 1, 0), client.texts(public, 1, 0)) == ([], ["x = 1"])
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"exclude": [], "enabled": True}}})
        assert client.texts(secret, 1, 0) == ["x = 1"]
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"enabled": False}}})
        assert client.texts(public, 1, 0) == []
        assert client.close() == 0


class Configured(Client):
    """A client with a configuration that the server may ask for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.section: dict[str, Any] | None = {"candidates": 2}

    def replies(self, message: dict[str, Any]) -> Any:
        return [self.section] if message["method"] == "workspace/configuration" else None


def test_the_workspaces_configuration_is_asked_for() -> None:
    with fake_server(kind=Configured) as client:
        client.initialize(capabilities={"workspace": {"configuration": True}})
        uri = client.open('#> ["x = 1", "x = 2", "x = 3"]\n')
        asked = client.note("workspace/configuration")["params"]
        assert asked == {"items": [{"section": "viable"}]}
        client.note("window/workDoneProgress/create")  # loading begins when the answer is in
        assert client.texts(uri, 1, 0, invoked=True) == ["x = 1", "x = 2"]
        assert client.close() == 0


def test_a_setting_that_is_removed_is_as_it_was_at_the_start() -> None:
    """Whether the client is asked or tells by itself; what it said when it began goes on to hold."""
    three = ["x = 1", "x = 2", "x = 3"]
    with fake_server(kind=Configured) as client:
        assert isinstance(client, Configured)
        client.initialize(capabilities={"workspace": {"configuration": True}}, exclude=["**/secret/*.py"])
        client.note("workspace/configuration")
        client.note("window/workDoneProgress/create")
        told: list[tuple[dict[str, Any] | None, dict[str, Any] | None, int, int]] = [
            # Pulled, pushed, and how many suggestions there are for two files.
            ({"candidates": 1, "exclude": []}, None, 1, 1),
            ({"exclude": []}, None, 3, 3),
            ({"candidates": 2}, None, 2, 0),
            (None, None, 3, 0),
            ({}, {"candidates": 1, "exclude": []}, 1, 1),
            ({}, {"candidates": 2}, 2, 0),
            ({}, {}, 3, 0),
        ]
        for number, (client.section, pushed, *expected) in enumerate(told):
            settings = None if pushed is None else {"viable": pushed}
            client.notify("workspace/didChangeConfiguration", {"settings": settings})
            if pushed is None:
                client.note("workspace/configuration")
            for folder, count in zip(("open", "secret"), expected, strict=True):
                uri = client.open(f"#> {json.dumps(three)}\n", f"{folder}/{number}.py")
                assert client.texts(uri, 1, 0, invoked=True) == three[:count], (number, folder)
        assert client.close() == 0


def test_a_configuration_that_comes_at_the_start_is_loaded_once(tmp_path: Path) -> None:
    with fake_server(FAKE_LOAD_UNTIL=str(tmp_path / "loaded")) as client:
        client.initialize(capabilities={"workspace": {"configuration": True}})
        # As VS Code does: before the server has asked for it.
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"context": 512}}})
        assert client.stats()["state"] == "loading"
        (tmp_path / "loaded").touch()
        client.until(lambda stats: stats["state"] == "ready")
        bars = [note for note in client.notes if note["method"] == "window/workDoneProgress/create"]
        assert [bar["params"]["token"] for bar in bars] == ["viable/load/1"]
        assert client.close() == 0


def test_the_bar_of_a_load_that_is_given_up_ends(tmp_path: Path) -> None:
    with fake_server(FAKE_LOAD_UNTIL=str(tmp_path / "loaded")) as client:
        client.initialize()
        client.note("window/workDoneProgress/create")
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"context": 512}}})
        assert client.stats()["state"] == "loading"
        (tmp_path / "loaded").touch()
        ended = set()
        while ended != {"viable/load/1", "viable/load/2"}:
            progress = client.note("$/progress")["params"]
            if progress["value"]["kind"] == "end":
                ended.add(progress["token"])
        assert client.close() == 0


def test_another_model_is_loaded_when_it_is_configured_and_the_old_one_goes() -> None:
    with fake_server() as client:
        client.initialize()
        uri = client.open('#> "x = 1"\n')
        assert client.texts(uri, 1, 0) == ["x = 1"]
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"model": "missing"}}})
        assert "missing" in client.note("window/showMessage")["params"]["message"]
        client.edit(uri, {"text": '#> "x = 2"\n'})
        assert client.texts(uri, 1, 0) == []
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"model": None}}})
        assert client.texts(uri, 1, 0) == ["x = 2"]
        assert client.call("workspace/executeCommand", {"command": "viable.restart"}) is None
        client.edit(uri, {"text": '#> "x = 3"\n'})
        assert client.texts(uri, 1, 0) == ["x = 3"]
        assert client.close() == 0


def test_a_time_budget_returns_what_parses_so_far() -> None:
    with fake_server(FAKE_PASS_MS="20") as client:
        client.initialize(maxMs=150)
        text = "\n".join(f"n{i} = {i}" for i in range(100))
        uri = client.open(f"#> {json.dumps(text)}\n")
        [written] = client.texts(uri, 1, 0)
        assert 0 < len(written) < 60
        assert text.startswith(written)
        assert client.close() == 0


def test_status_is_sent_to_a_client_that_wants_it() -> None:
    with fake_server() as client:
        client.initialize(status=True)
        states = [client.note("viable/status")["params"]["state"] for _ in range(2)]
        assert states == ["loading", "ready"]
        assert client.close() == 0


def test_a_long_suggestion_is_streamed_line_by_line_as_far_as_it_parses() -> None:
    with fake_server(FAKE_PASS_MS="1") as client:
        client.initialize(stream=True)
        text = "a = 1\nif a:\n    b = (2,\n        3)\nc = 4"
        uri = client.open(f"#> {json.dumps(text)}\n")
        assert client.texts(uri, 1, 0) == [text]
        streamed = [note["params"] for note in client.notes if note["method"] == "viable/partial"]
        assert [each["text"] for each in streamed] == ["a = 1", "a = 1\nif a:\n    b = (2,\n        3)"]
        assert streamed[0]["textDocument"] == {"uri": uri, "version": 1}
        assert streamed[0]["position"] == {"line": 1, "character": 0}
        assert client.close() == 0


def test_blank_lines_are_not_doubled_where_the_file_has_a_line_end(client: Client) -> None:
    uri = client.open('#> "a = 1\\n\\n"\n\n#> "b = 2\\n"\n', "tidy.py")
    assert client.texts(uri, 1, 0) == ["a = 1"]
    assert client.texts(uri, 3, 0) == ["b = 2\n"]


def test_a_client_that_follows_is_told(client: Client) -> None:
    client.notify("$/setTrace", {"value": "messages"})
    uri = client.open('#> "x = 1"\n', "trace.py")
    assert client.texts(uri, 1, 0) == ["x = 1"]
    assert client.note("$/logTrace")["params"]["message"].startswith("1 suggestions after ")
    client.notify("$/setTrace", {"value": "off"})
    assert client.texts(uri, 1, 0) == ["x = 1"]
    client.stats()
    assert not [note for note in client.notes if note["method"] == "$/logTrace"]

"""JSON-RPC 2.0 with one peer, on an event loop: every request is answered under its own id, whatever it holds.

Written out here because a library for the whole of the Language Server Protocol makes classes of its 500 messages
whenever it is imported, which took longer than everything else up to the answer to `initialize`. Tests hold what is
sent to what such a library reads.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

log = logging.getLogger(__name__)

PARSE_ERROR, INTERNAL_ERROR = -32700, -32603
INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32600, -32601, -32602
NOT_INITIALIZED, CANCELLED = -32002, -32800
"""Codes of errors; these two are the Language Server Protocol's."""


class Refusal(Exception):
    """What a request gets instead of a result: the peer's where a handler raises it, ours where `ask` does."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class _Call:
    """A request or a notification of the peer."""

    method: Any
    number: Any
    """Its id; nonsense, and None in a notification, included."""
    asks: bool
    """Whether it is a request."""


class Connection:
    """Our end of the line."""

    def __init__(self, write: Callable[[bytes], None], untimely: Callable[[str], Refusal | None]) -> None:
        """`write` takes a message's bytes. `untimely` says of a method why it may not be called now, if so."""
        self._write = write
        self._untimely = untimely
        self._methods: dict[str, tuple[Any, Callable[[Any], Any]]] = {}
        self._running: dict[_Call, asyncio.Task[Any]] = {}
        self._asked: dict[str, asyncio.Future[Any]] = {}
        """Our own requests, by id."""
        self._numbers = itertools.count(1)
        self.on("$/cancelRequest", _Cancel, self._cancel)

    def on(self, method: str, kind: Any, handler: Callable[[Any], Any]) -> None:
        """Have a method's messages handled.

        `kind` is the type of the parameters, as `msgspec.convert` takes it. The handler gives the result, which must be
        JSON, or a coroutine that does; a plain function has answered before the next message is read.
        """
        self._methods[method] = kind, handler

    def notify(self, method: str, params: Any) -> None:
        """Tell the peer something."""
        self._send({"method": method, "params": params})

    async def ask(self, method: str, params: Any) -> Any:
        """Ask the peer for something; what it answers, as JSON has it. Raises Refusal if that is an error."""
        number = f"viable/{next(self._numbers)}"
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": number, "method": method, "params": params})
            return await answer
        finally:
            del self._asked[number]

    def cancel(self) -> None:
        """Give up all that is under way; requests are answered with an error."""
        for task in self._running.values():
            task.cancel()

    def receive(self, body: bytes) -> None:
        """Read one message and have it handled. What a peer may have written never raises."""
        try:
            message = json.loads(body, parse_float=_number, parse_constant=_constant)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested beyond reason
            log.warning("dropped a message that is no JSON: %s", error)
            self._refuse(None, Refusal(PARSE_ERROR, f"not JSON: {error}"))
            return
        fields = message if isinstance(message, dict) else {}
        number = fields.get("id")
        if fields.get("jsonrpc") == "2.0" and "method" in fields:
            call = _Call(fields["method"], number, "id" in fields)
            self._conclude(call, lambda: self._begin(call, fields.get("params")))
        elif fields.get("jsonrpc") == "2.0" and ("result" in fields or "error" in fields):
            self._answered(number, fields)
        else:
            log.warning("dropped a message that is no JSON-RPC")
            self._refuse(number, Refusal(INVALID_REQUEST, "not JSON-RPC 2.0"))

    def _begin(self, call: _Call, params: Any) -> Any:
        """What the call's handler returns."""
        if not isinstance(call.method, str) or (call.asks and type(call.number) not in (int, str)):
            raise Refusal(INVALID_REQUEST, "a method is a string, an id a string or an integer")
        if refusal := self._untimely(call.method):
            raise refusal
        if (found := self._methods.get(call.method)) is None:
            raise Refusal(METHOD_NOT_FOUND, "there is no such method")
        kind, handler = found
        try:
            taken = msgspec.convert(params, kind)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Refusal(INVALID_PARAMS, str(error)) from None
        return handler(taken)

    def _conclude(self, call: _Call, outcome: Callable[[], Any]) -> None:
        """Answer a request with what comes of it, now or, if that is a coroutine, at its end."""
        self._running.pop(call, None)
        try:
            result = outcome()
        except asyncio.CancelledError:
            refusal = Refusal(CANCELLED, "the request was cancelled")
        except Refusal as error:
            # Nobody has to mend what comes at the wrong time, or what a newer client says and wants no answer to.
            usual = error.code in (INVALID_REQUEST, NOT_INITIALIZED) or (
                error.code == METHOD_NOT_FOUND and not call.asks
            )
            log.log(logging.DEBUG if usual else logging.WARNING, "refused %s: %s", call.method, error)
            refusal = error
        except Exception as error:  # a fault in one message must not end the service
            log.exception("%s failed: %s: %s", call.method, type(error).__name__, error)
            refusal = Refusal(INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        else:
            if asyncio.iscoroutine(result):
                self._running[call] = task = asyncio.ensure_future(result)
                task.add_done_callback(lambda done: self._conclude(call, done.result))
            elif call.asks:
                self._send({"id": call.number, "result": result})
            return
        if call.asks:
            self._refuse(call.number, refusal)

    def _cancel(self, params: _Cancel) -> None:
        for call, task in self._running.items():
            if call.asks and call.number == params.id:
                task.cancel()

    def _answered(self, number: Any, fields: dict[str, Any]) -> None:
        """Hand the peer's answer to who has asked."""
        answer = self._asked.get(number) if isinstance(number, str) else None
        if answer is None or answer.done():
            log.debug("an answer to nothing: %s", number)
        elif (error := fields.get("error")) is None:
            answer.set_result(fields.get("result"))
        else:
            said = error if isinstance(error, dict) else {}
            answer.set_exception(Refusal(said.get("code", INTERNAL_ERROR), str(said.get("message", error))))

    def _refuse(self, number: Any, refusal: Refusal) -> None:
        self._send({"id": number, "error": {"code": refusal.code, "message": str(refusal)}})

    def _send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode())


class _Cancel(msgspec.Struct, frozen=True):
    id: int | str


def _number(text: str) -> int | float:
    """JSON knows no integers: 1.0 is as good as 1, and some clients write it so. Raises ValueError beyond what can be
    written again, as an id has to be."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    return int(value) if value.is_integer() else value


def _constant(text: str) -> NoReturn:
    """Python reads and writes NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{text} is no JSON")

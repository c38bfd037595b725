"""A stand-in for a language model: OpenAI's chat completions (`POST /v1/chat/completions` with server-sent events), scripted by a
test. Source of the shapes: the openai Python package 3.54.0 (`types/chat`, `_streaming.py`)."""

import hmac
import inspect
import itertools
import json
import threading
import time
from dataclasses import dataclass, field

from .engines import KEY
from .faults import Engine, Fault, Gone

STYLES = {
    "whole": "a tool call comes in one piece, without an index",
    "reasoning": "reasoning_content before the text",
    "thinks": "<think>...</think> before the text, in two pieces",
    "crlf": "lines end with CRLF",
    "comments": "a comment before each event",
    "no-done": "no [DONE] at the end",
    "empty-choices": "the first chunk has no choice",
}


@dataclass(frozen=True)
class Status:
    """A step: answers with this HTTP status instead. It can only be the first."""

    status: int
    code: str = "server_error"
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorInside:
    """A step: an error inside the stream, after which it ends."""

    message: str = "The server had an error"


@dataclass
class Asked:
    """A request as it came. `asked["messages"]` is a field of its body."""

    at: float  # time.monotonic()
    headers: dict = field(repr=False)  # names in lower case
    body: dict
    dropped: bool = False  # the client left before the end of the answer
    ended: bool = False  # the answer is over

    def __getitem__(self, name):
        return self.body[name]

    @property
    def said(self):
        """The text of the last user message."""
        return next((one["content"] for one in reversed(self.body["messages"]) if one["role"] == "user"), "")


class ChatModel(Engine):
    """`answer` is a function `answer(messages)` or `answer(messages, tools)` whose result is one step or a list of steps, or a dict
    from the last user message to them (`None` is the key for all others). Steps, in order:

    - a text: sent a word a piece, `gap` seconds apart;
    - a number: seconds of waiting; in front of all others it is before the first octet of the answer;
    - `(name, arguments)`: a tool call; the arguments, a dict or a text (JSON or not), are cut in the middle;
    - `Status(500)`, `ErrorInside()`, `Fault.HANG`, `Fault.DROP`, `Fault.GARBAGE`.

    `style` is a set of habits of other servers (see STYLES). `asked` holds every request. A key other than `KEY` is refused with 401;
    `keyed = False` takes any."""

    def __init__(self, answer="Yes.", gap=0.0, style=(), keyed=True):
        self.answer, self.gap, self.style, self.keyed = answer, gap, set(style), keyed
        self.asked = []
        self._calls = itertools.count(1)
        self._changed = threading.Condition()
        super().__init__()
        self.base = f"{self.url}/v1"

    @property
    def dropped(self):
        """How many answers the client left before their end."""
        return sum(one.dropped for one in self.asked)

    def wait(self, count=1, seconds=10, where=lambda asked: True):
        """The requests that `where` holds for, as soon as there are so many of them. `where=lambda one: one.dropped` waits for a
        client that leaves."""
        found = []

        def enough():
            found[:] = [one for one in self.asked if where(one)]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(enough, seconds):
                raise AssertionError(f"waited {seconds:g} s for {count} requests; came: {[one.said for one in self.asked]}")
        return found

    def forget(self):
        """Forgets what it was asked."""
        with self._changed:
            self.asked.clear()

    def serve(self, handler, body):
        if handler.path != "/v1/chat/completions":
            return _refuse(handler, 404, f"no such path: {handler.path}", "invalid_request_error")
        try:
            request = json.loads(body)
        except ValueError:
            return _refuse(handler, 400, "The body is not JSON", "invalid_request_error")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(time.monotonic(), headers, request)
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
        try:
            self._answer(handler, asked)
        except Gone:
            asked.dropped = True
            raise
        except (BrokenPipeError, ConnectionResetError):
            asked.dropped = True
            raise
        finally:
            with self._changed:
                asked.ended = True
                self._changed.notify_all()

    def _answer(self, handler, asked):
        if self.keyed and not hmac.compare_digest(asked.headers.get("authorization", ""), f"Bearer {KEY}"):
            return _refuse(handler, 401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key")
        fault = fault_of(asked.body)
        if fault:
            return _refuse(handler, 400, fault, "invalid_request_error")
        steps = self._steps(asked)
        while steps and is_number(steps[0]):
            handler.look(steps.pop(0))
        if steps and isinstance(steps[0], Status):
            text = {"error": {"message": "out of order", "type": steps[0].code, "param": None, "code": steps[0].code}}
            return handler.answer(
                steps[0].status, "application/json", json.dumps(text).encode(), steps[0].headers.items()
            )
        if steps and isinstance(steps[0], Fault):
            handler.suffer(steps[0])
        return _Stream(handler, asked.body, self.style, self.gap, self._calls).write(steps)

    def _steps(self, asked):
        answer = self.answer
        if isinstance(answer, dict):
            answer = answer[asked.said] if asked.said in answer else answer.get(None, "")
        elif callable(answer):
            wanted = len(inspect.signature(answer).parameters)
            answer = answer(*(asked.body["messages"], asked.body.get("tools") or [])[:wanted])
        return list(answer) if isinstance(answer, list) else [answer]


class _Stream:
    """The events of one answer."""

    def __init__(self, handler, request, style, gap, numbers):
        self.handler, self.request, self.style, self.gap, self.numbers = handler, request, style, gap, numbers
        self.calls = 0

    def write(self, steps):
        self.handler.begin("text/event-stream")
        if "empty-choices" in self.style:
            self._event(self._body([]))
        self._chunk({"role": "assistant", "content": ""})
        if "reasoning" in self.style:
            self._chunk({"reasoning_content": "What do they want?"})
        if "thinks" in self.style:
            self._chunk({"content": "<think>What do"})
            self._chunk({"content": " they want?</think>"})
        for step in steps:
            if not self._step(step):
                return self.handler.end()
        self._chunk({}, "tool_calls" if self.calls else "stop")
        if (self.request.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            self._event(self._body([]) | {"usage": usage})
        if "no-done" not in self.style:
            self._line("data: [DONE]")
        return self.handler.end()

    def _step(self, step):
        """Whether the stream goes on."""
        if is_number(step):
            self.handler.look(step)
        elif isinstance(step, str):
            for at, piece in enumerate(_pieces(step)):
                self.handler.look(self.gap if at else 0)
                self._chunk({"content": piece})
        elif isinstance(step, tuple):
            self._call(*step)
        elif isinstance(step, ErrorInside):
            self._event({"error": {"message": step.message, "type": "server_error", "param": None, "code": None}})
            return False
        elif step is Fault.GARBAGE:
            self.handler.send(b"\x00\xff<html>\n{]" * 50 + b"\n\n")
        elif isinstance(step, Fault):
            self.handler.suffer(step)
        else:
            raise TypeError(f"not a step here: {step!r}")
        return True

    def _call(self, name, arguments):
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"id": f"call_{next(self.numbers)}", "type": "function"}
        if "whole" in self.style:
            self._chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": arguments}}]})
        else:
            at = {"index": self.calls}
            middle = len(arguments) // 2
            self._chunk({"tool_calls": [{**at, **head, "function": {"name": name, "arguments": ""}}]})
            for piece in (arguments[:middle], arguments[middle:]):
                self._chunk({"tool_calls": [{**at, "function": {"arguments": piece}}]})
        self.calls += 1

    def _body(self, choices):
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.request["model"],
            "choices": choices,
        }

    def _chunk(self, delta, reason=None):
        self._event(self._body([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]))

    def _event(self, body):
        if "comments" in self.style:
            self._line(": ping")
        self._line(f"data: {json.dumps(body)}")

    def _line(self, text):
        end = "\r\n" if "crlf" in self.style else "\n"
        self.handler.send(f"{text}{end}{end}".encode())


def is_number(step):
    return isinstance(step, (int, float)) and not isinstance(step, bool)


def fault_of(request):
    """What OpenAI's API would refuse a request for; None if it takes it."""
    if not request.get("model") or not request.get("messages"):
        return "Missing required parameter: 'model' or 'messages'."
    if request.get("stream") is not True:
        return "This model only streams."
    open_calls = []
    for message in request["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            break
        open_calls = [call["id"] for call in message.get("tool_calls") or []]
    if open_calls:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
            f" The following tool_call_ids did not have response messages: {', '.join(open_calls)}"
        )
    return None


def _pieces(text):
    """The words of a text, each with the space behind it."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def _refuse(handler, status, message, kind, code=None):
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    handler.answer(status, "application/json", json.dumps(body).encode())

"""Telnyx's webhooks held against what is published: each that any test receives."""

from . import relatives
from .relative_run import suits

PUBLISHED = relatives.load("telnyx_webhooks")

# Sent, and documented elsewhere (call.conversation.*: in the types of the SDK): the document has no such webhook.
COMMON = {name: "string" for name in ("call_control_id", "call_leg_id", "call_session_id", "client_state", "connection_id")}
PARTIES = {name: "string" for name in ("from", "to", "calling_party_type")}
UNPUBLISHED = {
    "call.conversation.created": COMMON | PARTIES | {"conversation_id": "string"},
    "call.conversation.start_failed": COMMON | PARTIES | {"assistant_id": "string", "reason": "string"},
    "call.transcription": COMMON | {"transcription_data": "object"},
}

# Of an event, or of all: members that are not published there. They are documented elsewhere, or applications in the field want them.
BEYOND = {
    "call.answered": {"stream_url", "stream_track"},
    "call.conversation.ended": {"messages"},
    "call.gather.ended": {"gather_id"},
    "call.hangup": {"duration_seconds"},
    "call.recording.saved": {"call_control_id", "format", "recording_id"},
}

# Members that are there only if they say something.
OPTIONAL = {"media_url", "media_name"}

# Never sent, and why.
_DEEPFAKE = "voices are not judged: deepfake_detection is refused"
NEVER = {
    "call.conversation_insights.generated": "conversations are not analysed",
    "call.cost": "calls cost nothing here",
    "call.deepfake_detection.error": _DEEPFAKE,
    "call.deepfake_detection.result": _DEEPFAKE,
}

SEEN = set()  # in this process


def faults(event):
    """What is wrong with an event, `data` of a webhook; it counts as seen."""
    kind, payload = event["event_type"], event["payload"]
    shape = PUBLISHED.get(kind) or UNPUBLISHED.get(kind)
    if shape is None:
        return [f"{kind}: not published"]
    if kind in PUBLISHED:
        SEEN.add(kind)
    wrong = [f"{key}: not published" for key in set(payload) - set(shape) - BEYOND.get(kind, set())]
    wrong += [f"{key}: missing" for key in set(shape) - set(payload) - OPTIONAL]
    for key, value in payload.items():
        if key in shape and value is not None and not suits(shape[key], value):
            wrong.append(f"{key}: not {shape[key]}: {value!r}")
    if kind in NEVER:
        wrong.append("is listed as never sent")
    return [f"{kind}: {one}" for one in wrong]


def summary(seen):
    """Lines for the end of the report."""
    yield f"{len(seen)} of {len(PUBLISHED)} kinds seen, {len(NEVER)} are never sent"
    unseen = set(PUBLISHED) - set(seen) - set(NEVER)
    if unseen:
        yield "not seen in this run: " + ", ".join(sorted(unseen))
    for kind, why in NEVER.items():
        yield f"never sent: {kind}: {why}"

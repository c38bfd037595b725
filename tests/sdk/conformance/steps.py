"""The order in which each group's operations are called: what is made is fetched, listed, changed and removed again."""

import socket
from types import SimpleNamespace

from harness.audio import speech, write_capture
from harness.phone import callee, play
from harness.waiting import poll

from .run import Answer

FROM = "+15550001111"
PAUSE = "<Response><Pause length='120'/></Response>"


class Scene:
    """What steps need: the run, phones, a web application; `place` is where calls to +4930... go."""

    def __init__(self, run, server, app, phone, rtp, folder, place):
        self.run, self.server, self.app, self.phone, self.rtp, self.folder = run, server, app, phone, rtp, folder
        self.place, self.do = place, run.do

    def call(self, twiml=PAUSE, steps="", **more):
        """A call to a phone of its own, answered."""
        called = self.phone(callee(steps))
        made = self.do("CreateCall", {"To": called.uri, "From": FROM, "Twiml": twiml, **more})
        self.becomes("FetchCall", "in-progress", Sid=made["sid"])
        return SimpleNamespace(sid=made["sid"], phone=called)

    def hang_up(self, *calls):
        """Ends calls; their phones must have gone through."""
        for call in calls:
            self.do("UpdateCall", {"Status": "completed"}, Sid=call.sid)
        for call in calls:
            call.phone.finish()
            self.becomes("FetchCall", "completed", Sid=call.sid)

    def becomes(self, operation, *states, seconds=15, **path):
        """Calls it until its status is one of these. What is not there will not change."""

        def is_over():
            now = self.do(operation, **path)
            return not now or now.get("status") in states

        poll(is_over, seconds)

    def first(self, operation, parameters=(), seconds=10, **path):
        """The first row of a list, once there is one."""
        found = []

        def has_rows():
            found[:] = [self.run.rows(operation, parameters, path)]
            return found[0] != []

        poll(has_rows, seconds)
        rows = found[0]
        self.do(operation, parameters, **path)
        return Answer(rows[0] if rows else {})


def accounts(x):
    do, own = x.do, x.server.account_sid
    do("FetchAccount", Sid=own)
    do("FetchBalance")
    made = do("CreateAccount", {"FriendlyName": "Below"})
    do("ListAccount", {"PageSize": 1})
    do("UpdateAccount", {"FriendlyName": "Further below"}, Sid=made["sid"])
    do("UpdateAccount", {"Status": "closed"}, Sid=made["sid"])
    do("CreateToken", {"Ttl": 600})
    for kind, create in (("Key", "CreateNewKey"), ("SigningKey", "CreateNewSigningKey")):
        key = do(create, {"FriendlyName": "One"})
        do(f"List{kind}")
        do(f"Fetch{kind}", Sid=key["sid"])
        do(f"Update{kind}", {"FriendlyName": "Another"}, Sid=key["sid"])
        do(f"Delete{kind}", Sid=key["sid"])
    place = {"CustomerName": "Us", "Street": "1 Main", "City": "Town", "Region": "CA", "PostalCode": "94105", "IsoCountry": "US"}
    address = do("CreateAddress", place)
    do("ListAddress")
    do("FetchAddress", Sid=address["sid"])
    do("UpdateAddress", {"FriendlyName": "Home"}, Sid=address["sid"])
    # What hangs on it.
    number = do("CreateIncomingPhoneNumber", {"PhoneNumber": "+15551230190", "AddressSid": address["sid"]})
    do("ListDependentPhoneNumber", AddressSid=address["sid"])
    do("DeleteIncomingPhoneNumber", Sid=number["sid"])
    do("DeleteAddress", Sid=address["sid"])


def usage(x):
    do = x.do
    x.hang_up(x.call())
    for period in ("", "AllTime", "Daily", "Monthly", "ThisMonth", "Today", "Yearly"):
        x.first(f"ListUsageRecord{period}", {"Category": "calls"})
    # There was nothing then, but a row says so.
    for period in ("LastMonth", "Yesterday"):
        do(f"ListUsageRecord{period}", {"Category": "calls"})
    made = do(
        "CreateUsageTrigger", {"CallbackUrl": f"{x.app.url}/usage", "TriggerValue": "1000", "UsageCategory": "calls"}
    )
    do("ListUsageTrigger")
    do("FetchUsageTrigger", Sid=made["sid"])
    do("UpdateUsageTrigger", {"FriendlyName": "Much"}, Sid=made["sid"])
    do("DeleteUsageTrigger", Sid=made["sid"])


def calls(x):
    do = x.do
    call = x.call()
    here = {"CallSid": call.sid}
    do("ListCall", {"PageSize": 1})

    recording = do("CreateCallRecording", {"RecordingChannels": "dual"}, **here)
    do("ListCallRecording", **here)
    do("FetchCallRecording", Sid=recording["sid"], **here)
    do("UpdateCallRecording", {"Status": "paused"}, Sid="Twilio.CURRENT", **here)
    do("UpdateCallRecording", {"Status": "in-progress"}, Sid=recording["sid"], **here)
    do("UpdateCallRecording", {"Status": "stopped"}, Sid=recording["sid"], **here)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        stream = do("CreateStream", {"Url": url, "Name": "a stream"}, **here)
        do("UpdateStream", {"Status": "stopped"}, Sid=stream["sid"], **here)
    # Nobody is there: that is told later.
    session = do("CreateSiprec", {"ConnectorName": "recorder", "Name": "a session"}, **here)
    do("UpdateSiprec", {"Status": "stopped"}, Sid=session["sid"], **here)
    live = do("CreateRealtimeTranscription", {"Name": "words", "StatusCallbackUrl": f"{x.app.url}/words"}, **here)
    do("UpdateRealtimeTranscription", {"Status": "stopped"}, Sid=live["sid"], **here)
    subscription = do("CreateUserDefinedMessageSubscription", {"Callback": f"{x.app.url}/messages"}, **here)
    do("CreateUserDefinedMessage", {"Content": '{"a": 1}'}, **here)
    do("DeleteUserDefinedMessageSubscription", Sid=subscription["sid"], **here)

    x.hang_up(call)
    x.becomes("FetchCallRecording", "completed", Sid=recording["sid"], **here)
    do("DeleteCallRecording", Sid=recording["sid"], **here)
    do("DeleteCall", Sid=call.sid)

    # One whose document comes from an application that has no page where it sends it next.
    x.app.on("/voice", ("<Response><Redirect>/nowhere</Redirect></Response>", 200, {"Content-Type": "text/xml"}))
    called = x.phone(callee())
    lost = do("CreateCall", {"To": called.uri, "From": FROM, "Url": f"{x.app.url}/voice"})["sid"]
    called.finish()
    do("ListCallEvent", CallSid=lost)
    notification = x.first("ListCallNotification", CallSid=lost)
    do("FetchCallNotification", CallSid=lost, Sid=notification["sid"])


def notifications(x):
    x.app.on("/lost", ("<Response><Redirect>/nowhere</Redirect></Response>", 200, {"Content-Type": "text/xml"}))
    called = x.phone(callee())
    x.do("CreateCall", {"To": called.uri, "From": FROM, "Url": f"{x.app.url}/lost"})
    called.finish()
    found = x.first("ListNotification")
    x.do("FetchNotification", Sid=found["sid"])


def recordings(x):
    do = x.do
    pcap = x.folder / "spoken.pcap"
    write_capture(pcap, speech(3))
    record = "<Response><Record timeout='1' maxLength='10' playBeep='false' transcribe='true'/><Hangup/></Response>"
    called = x.phone(callee(play(pcap)), calls=2)
    made = []
    for _ in range(2):
        call = do("CreateCall", {"To": called.uri, "From": FROM, "Twiml": record})["sid"]
        made.append(x.first("ListRecording", {"CallSid": call})["sid"])
        x.becomes("FetchRecording", "completed", Sid=made[-1])
    called.finish()
    first, second = [x.first("ListRecordingTranscription", RecordingSid=sid) for sid in made]
    do("FetchRecordingTranscription", RecordingSid=made[0], Sid=first["sid"])
    do("ListTranscription", {"PageSize": 1})
    do("FetchTranscription", Sid=second["sid"])
    for one in (first, second):
        x.becomes("FetchTranscription", "completed", "failed", Sid=one["sid"])
    do("DeleteRecordingTranscription", RecordingSid=made[0], Sid=first["sid"])
    do("DeleteTranscription", Sid=second["sid"])
    do("DeleteRecording", Sid=made[0])


def conferences(x):
    do = x.do
    join = "<Response><Dial><Conference record='record-from-start' beep='false'>meeting</Conference></Dial></Response>"
    first = x.call(join)
    room = x.first("ListConference", {"FriendlyName": "meeting"})["sid"]
    here = {"ConferenceSid": room}
    do("FetchConference", Sid=room)
    called = x.phone(callee())
    second = do("CreateParticipant", {"From": FROM, "To": called.uri, "Label": "two"}, **here)["call_sid"]
    x.becomes("FetchParticipant", "connected", CallSid=second, **here)
    do("ListParticipant", **here)
    do("FetchParticipant", CallSid="two", **here)
    do("UpdateParticipant", {"Muted": "true"}, CallSid=second, **here)
    recording = x.first("ListConferenceRecording", **here)["sid"]
    do("FetchConferenceRecording", Sid=recording, **here)
    do("UpdateConferenceRecording", {"Status": "paused"}, Sid=recording, **here)
    do("UpdateConferenceRecording", {"Status": "stopped"}, Sid=recording, **here)
    do("DeleteParticipant", CallSid=second, **here)
    called.finish()
    do("UpdateConference", {"Status": "completed"}, Sid=room)
    first.phone.finish()
    x.becomes("FetchConferenceRecording", "completed", Sid=recording, **here)
    do("DeleteConferenceRecording", Sid=recording, **here)


def queues(x):
    do = x.do
    queue = do("CreateQueue", {"FriendlyName": "support", "MaxSize": 5})["sid"]
    do("ListQueue")
    do("FetchQueue", Sid=queue)
    do("UpdateQueue", {"MaxSize": 6}, Sid=queue)
    waiting = "<Response><Enqueue>support</Enqueue></Response>"
    first, second = x.call(waiting), x.call(waiting)
    here = {"QueueSid": queue}
    x.first("ListMember", **here)
    do("FetchMember", CallSid="Front", **here)
    do("FetchMember", CallSid=second.sid, **here)
    x.app.on("/agent", (PAUSE, 200, {"Content-Type": "text/xml"}))
    do("UpdateMember", {"Url": f"{x.app.url}/agent"}, CallSid="Front", **here)
    do("UpdateMember", {"Url": f"{x.app.url}/agent"}, CallSid=second.sid, **here)
    x.hang_up(first, second)
    do("DeleteQueue", Sid=queue)


def numbers(x):
    do = x.do
    do("ListAvailablePhoneNumberCountry")
    us = {"CountryCode": "US"}
    do("FetchAvailablePhoneNumberCountry", **us)
    for kind in ("Local", "MachineToMachine", "Mobile", "National", "SharedCost", "TollFree", "Voip"):
        do(f"ListAvailablePhoneNumber{kind}", **us)
    voice = {"VoiceUrl": f"{x.app.url}/voice"}
    for kind, number in (("", "+15551230101"), ("Local", "+15551230102"), ("Mobile", "+15551230120"), ("TollFree", "+18005550100")):
        made = do(f"CreateIncomingPhoneNumber{kind}", {"PhoneNumber": number, **voice})
        do(f"ListIncomingPhoneNumber{kind}")
        do("FetchIncomingPhoneNumber", Sid=made["sid"])
        do("UpdateIncomingPhoneNumber", {"FriendlyName": f"Line {number}"}, Sid=made["sid"])
        do("DeleteIncomingPhoneNumber", Sid=made["sid"])
    made = do("CreateApplication", {"FriendlyName": "App", **voice})
    do("ListApplication")
    do("FetchApplication", Sid=made["sid"])
    do("UpdateApplication", {"VoiceMethod": "GET"}, Sid=made["sid"])
    do("DeleteApplication", Sid=made["sid"])
    verify(x)


def verify(x):
    """A caller id: who owns the number is called and presses the code."""
    do, media = x.do, x.rtp()
    called = x.phone(callee(), media=media, port=x.place)
    asked = do("CreateValidationRequest", {"PhoneNumber": "+493012345", "FriendlyName": "Mine"})
    if "validation_code" not in asked:
        return
    media.wait_for_sound()
    media.press(asked["validation_code"])
    called.finish()
    mine = x.first("ListOutgoingCallerId")["sid"]
    do("FetchOutgoingCallerId", Sid=mine)
    do("UpdateOutgoingCallerId", {"FriendlyName": "Ours"}, Sid=mine)
    do("DeleteOutgoingCallerId", Sid=mine)


def sip(x):
    do = x.do
    credentials = do("CreateSipCredentialList", {"FriendlyName": "Users"})["sid"]
    do("ListSipCredentialList")
    do("FetchSipCredentialList", Sid=credentials)
    do("UpdateSipCredentialList", {"FriendlyName": "People"}, Sid=credentials)
    here = {"CredentialListSid": credentials}
    user = do("CreateSipCredential", {"Username": "alice", "Password": "Correct4Horse"}, **here)["sid"]
    do("ListSipCredential", **here)
    do("FetchSipCredential", Sid=user, **here)
    do("UpdateSipCredential", {"Password": "Battery5Staple"}, Sid=user, **here)

    networks = do("CreateSipIpAccessControlList", {"FriendlyName": "Offices"})["sid"]
    do("ListSipIpAccessControlList")
    do("FetchSipIpAccessControlList", Sid=networks)
    do("UpdateSipIpAccessControlList", {"FriendlyName": "Houses"}, Sid=networks)
    there = {"IpAccessControlListSid": networks}
    address = do("CreateSipIpAddress", {"FriendlyName": "One", "IpAddress": "192.0.2.1", "CidrPrefixLength": 24}, **there)["sid"]
    do("ListSipIpAddress", **there)
    do("FetchSipIpAddress", Sid=address, **there)
    do("UpdateSipIpAddress", {"FriendlyName": "Two"}, Sid=address, **there)

    domain = do("CreateSipDomain", {"DomainName": "conformance.sip.twilio.com", "VoiceUrl": f"{x.app.url}/voice"})["sid"]
    do("ListSipDomain")
    do("FetchSipDomain", Sid=domain)
    do("UpdateSipDomain", {"SipRegistration": "true"}, Sid=domain)
    on = {"DomainSid": domain}
    for kind, sid in (("Credential", credentials), ("IpAccessControl", networks)):
        for name in (f"Sip{kind}ListMapping", f"SipAuthCalls{kind}ListMapping"):
            _mapping(do, name, f"{kind}ListSid", sid, on)
    _mapping(do, "SipAuthRegistrationsCredentialListMapping", "CredentialListSid", credentials, on)

    do("DeleteSipDomain", Sid=domain)
    do("DeleteSipIpAddress", Sid=address, **there)
    do("DeleteSipIpAccessControlList", Sid=networks)
    do("DeleteSipCredential", Sid=user, **here)
    do("DeleteSipCredentialList", Sid=credentials)


def _mapping(do, name, parameter, sid, on):
    made = do(f"Create{name}", {parameter: sid}, **on)["sid"]
    do(f"List{name}", **on)
    do(f"Fetch{name}", Sid=made, **on)
    do(f"Delete{name}", Sid=made, **on)


def trunking(x):
    do = x.do
    trunk = do("TrunkingCreateTrunk", {"FriendlyName": "Trunk", "DomainName": "conformance.pstn.twilio.com"})["sid"]
    do("TrunkingListTrunk")
    do("TrunkingFetchTrunk", Sid=trunk)
    do("TrunkingUpdateTrunk", {"Secure": "false", "TransferMode": "sip-only"}, Sid=trunk)
    on = {"TrunkSid": trunk}
    do("TrunkingFetchRecording", **on)
    do("TrunkingUpdateRecording", {"Mode": "record-from-answer", "Trim": "trim-silence"}, **on)
    url = {"Weight": 1, "Priority": 1, "Enabled": "true", "FriendlyName": "PBX", "SipUrl": "sip:pbx@pbx.example.com"}
    made = do("TrunkingCreateOriginationUrl", url, **on)["sid"]
    do("TrunkingListOriginationUrl", **on)
    do("TrunkingFetchOriginationUrl", Sid=made, **on)
    do("TrunkingUpdateOriginationUrl", {"Weight": 2}, Sid=made, **on)
    do("TrunkingDeleteOriginationUrl", Sid=made, **on)
    credentials = do("CreateSipCredentialList", {"FriendlyName": "Trunk's"})["sid"]
    networks = do("CreateSipIpAccessControlList", {"FriendlyName": "Trunk's"})["sid"]
    number = do("CreateIncomingPhoneNumber", {"PhoneNumber": "+15551230191"})["sid"]
    things = (
        ("CredentialList", "CredentialListSid", credentials),
        ("IpAccessControlList", "IpAccessControlListSid", networks),
        ("PhoneNumber", "PhoneNumberSid", number),
    )
    for name, parameter, sid in things:
        made = do(f"TrunkingCreate{name}", {parameter: sid}, **on)["sid"]
        do(f"TrunkingList{name}", **on)
        do(f"TrunkingFetch{name}", Sid=made, **on)
        do(f"TrunkingDelete{name}", Sid=made, **on)
    do("TrunkingDeleteTrunk", Sid=trunk)
    do("DeleteSipCredentialList", Sid=credentials)
    do("DeleteSipIpAccessControlList", Sid=networks)
    do("DeleteIncomingPhoneNumber", Sid=number)

"""Supervisors of Telnyx's calls, with telnyx-python: who hears whom is told by the tones that phones say and hear."""

import contextlib
import itertools

import pytest
import telnyx

from harness.party import Party
from harness.phone import callee, caller
from harness.telnyx_app import CONNECTION, NUMBER, serve

CALLER, AGENT, SUPERVISOR = 400, 700, 1100  # Hz
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp)


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def dials(app, phone, rtp):
    """A phone that is called and answers: its `leg`."""

    def dial(**parameters):
        one = Party(phone, rtp, callee())
        one.dialled = app.client.calls.dial(connection_id=CONNECTION, to=one.uri, from_=NUMBER, **parameters).data
        one.leg = one.dialled.call_control_id
        app.wait("call.answered", one.leg)
        return one

    return dial


@pytest.fixture
def joined(app, phone, rtp, server, dials):
    """A caller, and an agent who was called and joined with it."""

    def start():
        # Its name tells its call from those of other tests.
        name = f"customer {next(numbers)}"
        scenario = caller(NUMBER, ends="wait").replace("From: <sip:", f'From: "{name}" <sip:')
        customer = Party(phone, rtp, scenario, target=server.sip)
        customer.leg = app.wait("call.initiated", caller_id_name=name)["call_control_id"]
        app.actions.answer(customer.leg)
        agent = dials(link_to=customer.leg, bridge_intent=True, bridge_on_answer=True)
        for one in (customer, agent):
            app.wait("call.bridged", one.leg)
        return customer, agent

    return start


@contextlib.contextmanager
def all_speak(customer, agent, supervisor):
    with customer.sounds(CALLER), agent.sounds(AGENT), supervisor.sounds(SUPERVISOR):
        yield


def hear(customer, agent, supervisor, whispered, barged):
    """Each hears whom it is to hear, and nobody else: `whispered` that the agent hears the supervisor, `barged` that the caller does."""
    agent.hears_exactly(CALLER, *[SUPERVISOR] * whispered, of=(CALLER, AGENT, SUPERVISOR))
    customer.hears_exactly(AGENT, *[SUPERVISOR] * barged, of=(CALLER, AGENT, SUPERVISOR))
    supervisor.hears_exactly(CALLER, AGENT, of=(CALLER, AGENT, SUPERVISOR))


def end(app, *parties):
    for one in parties:
        app.wait("call.hangup", one.leg)
        one.phone.finish()


def test_the_role_of_a_supervisor_decides_who_hears_it_and_can_change(app, joined, dials):
    customer, agent = joined()
    supervisor = dials(supervise_call_control_id=agent.leg, supervisor_role="monitor")
    assert supervisor.dialled.call_session_id == app.wait("call.answered", agent.leg)["call_session_id"]
    with all_speak(customer, agent, supervisor):
        hear(customer, agent, supervisor, whispered=False, barged=False)
        app.actions.switch_supervisor_role(supervisor.leg, role="whisper")
        hear(customer, agent, supervisor, whispered=True, barged=False)
        app.actions.switch_supervisor_role(supervisor.leg, role="barge")
        hear(customer, agent, supervisor, whispered=True, barged=True)
        # The two go on without it.
        app.actions.hangup(supervisor.leg)
        agent.hears_exactly(CALLER, of=(CALLER, AGENT, SUPERVISOR))
        customer.hears_exactly(AGENT, of=(CALLER, AGENT, SUPERVISOR))
    app.actions.hangup(customer.leg)
    end(app, customer, agent, supervisor)


def test_a_supervisor_without_a_role_is_heard_by_both_and_ends_with_its_leg(app, joined, dials):
    customer, agent = joined()
    supervisor = dials(supervise_call_control_id=agent.leg)
    with all_speak(customer, agent, supervisor):
        hear(customer, agent, supervisor, whispered=True, barged=True)
    app.actions.hangup(agent.leg)
    end(app, customer, agent, supervisor)


def test_a_supervisor_follows_its_leg_from_a_bridge_into_a_conference_and_back(app, joined, dials):
    customer, agent = joined()
    supervisor = dials(supervise_call_control_id=agent.leg, supervisor_role="whisper")
    room = app.client.conferences.create(call_control_id=agent.leg, name="moved").data.id
    # The agent has left the customer, whose call is over with that.
    end(app, customer)
    third = dials()
    app.client.conferences.actions.join(room, call_control_id=third.leg)
    with all_speak(third, agent, supervisor):
        hear(third, agent, supervisor, whispered=True, barged=False)
        app.actions.switch_supervisor_role(supervisor.leg, role="monitor")
        hear(third, agent, supervisor, whispered=False, barged=False)
        # Back to a call of two.
        app.actions.bridge(third.leg, call_control_id_to_bridge_with=agent.leg)
        app.wait("call.bridged", third.leg)
        hear(third, agent, supervisor, whispered=False, barged=False)
        app.actions.switch_supervisor_role(supervisor.leg, role="whisper")
        hear(third, agent, supervisor, whispered=True, barged=False)
    app.actions.hangup(third.leg)
    end(app, third, agent, supervisor)


def test_a_conference_participant_supervises_according_to_its_role(app, dials):
    customer, agent, supervisor = dials(), dials(), dials()
    conferences = app.client.conferences
    room = conferences.create(call_control_id=customer.leg, name="supervised").data.id
    conferences.actions.join(room, call_control_id=agent.leg)
    conferences.actions.join(
        room, call_control_id=supervisor.leg, supervisor_role="whisper", whisper_call_control_ids=[agent.leg]
    )
    with all_speak(customer, agent, supervisor):
        hear(customer, agent, supervisor, whispered=True, barged=False)
    for one in (customer, agent, supervisor):
        app.actions.hangup(one.leg)
    end(app, customer, agent, supervisor)


def test_a_dial_with_conference_config_joins_the_conference(app, dials):
    customer = dials(conference_config={"conference_name": "dialled", "end_conference_on_exit": True})
    room = app.client.conferences.create
    with pytest.raises(telnyx.UnprocessableEntityError) as refused:
        room(call_control_id=customer.leg, name="dialled")
    assert refused.value.body["errors"][0]["code"] == "90033"
    agent = dials(conference_config={"conference_name": "dialled"})
    supervisor = dials(
        conference_config={
            "conference_name": "dialled",
            "supervisor_role": "whisper",
            "whisper_call_control_ids": [agent.leg],
        }
    )
    with all_speak(customer, agent, supervisor):
        hear(customer, agent, supervisor, whispered=True, barged=False)
    # The first one's leaving ends it, and hangs up the others.
    app.actions.hangup(customer.leg)
    end(app, customer, agent, supervisor)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"supervise_call_control_id": "v3:nobody"}, "90015"),
        ({"supervise_call_control_id": None, "supervisor_role": "boss"}, "10032"),
        ({"conference_config": {"id": "00000000-0000-4000-8000-000000000000"}}, "90044"),
        ({"conference_config": {}}, "10004"),
        ({"conference_config": {"conference_name": "x", "supervisor_role": "boss"}}, "10032"),
    ],
)
def test_a_supervisor_without_a_valid_leg_is_refused(app, parameters, code):
    with pytest.raises(telnyx.APIStatusError) as refused:
        app.client.calls.dial(connection_id=CONNECTION, to="sip:nobody@127.0.0.1:9", from_=NUMBER, extra_body=parameters)
    assert refused.value.body["errors"][0]["code"] == code


def test_a_role_change_of_a_leg_that_is_no_supervisor_is_refused(app, dials):
    one = dials()
    with pytest.raises(telnyx.UnprocessableEntityError):
        app.actions.switch_supervisor_role(one.leg, role="barge")
    app.actions.hangup(one.leg)
    end(app, one)
    with pytest.raises(telnyx.UnprocessableEntityError) as refused:
        app.client.calls.dial(
            connection_id=CONNECTION, to="sip:nobody@127.0.0.1:9", from_=NUMBER, supervise_call_control_id=one.leg
        )
    assert refused.value.body["errors"][0]["code"] == "90018"

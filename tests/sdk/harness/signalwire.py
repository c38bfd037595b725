"""A SignalWire project for the tests: its credentials, and a server's configuration with it."""

import requests

PROJECT, TOKEN, KEY = "6b2d7f6e-3c55-4d2c-9a37-0c1d6f3f9a10", "PT5e1f0a9b8c7d6e5f", "PSK_0a1b2c3d4e5f"
ACCOUNT = f'''
[[accounts]]
name = "space"
signalwire = {{ project_id = "{PROJECT}", api_token = "{TOKEN}", signing_key = "{KEY}" }}
'''
NUMBER = "+15551230001"


def space(url):
    """The project, with a number whose documents are at `url`."""
    return f'{ACCOUNT}[[numbers]]\nnumber = "{NUMBER}"\naccount = "space"\nvoice_url = "{url}"\n'


def subscriber_token(server, reference):
    """Asks for the token of a subscriber, as the backend of an application does."""
    url = f"{server.http}/api/fabric/subscribers/tokens"
    answer = requests.post(url, json={"reference": reference}, auth=(PROJECT, TOKEN), timeout=5)
    assert answer.ok, answer.text
    return answer.json()["token"]


def relay_token(server, resource, **options):
    """Asks for a token for the SDK 1.x, as the backend of an application does. Returns the answer: `jwt_token` and `refresh_token`."""
    url = f"{server.http}/api/relay/rest/jwt"
    answer = requests.post(url, json={"resource": resource, **options}, auth=(PROJECT, TOKEN), timeout=5)
    assert answer.ok, answer.text
    return answer.json()

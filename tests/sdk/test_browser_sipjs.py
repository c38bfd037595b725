"""SIP.js in Chromium: the published package is a phone of the server, and hears and is heard."""

import pytest

from browser_sip_acts import *  # noqa: F403


@pytest.fixture(scope="module")
def library():
    return "sipjs"

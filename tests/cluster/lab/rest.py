"""Twilio's REST API at a node."""

import requests


class Rest:
    """The API of the account at one node. A result is (status, JSON); the status is 0 if there was no answer."""

    def __init__(self, node, seconds=5):
        self.node, self._seconds = node, seconds
        self._base = f"{node.http}/2010-04-01/Accounts/{node.account_sid}"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = (node.account_sid, node.auth_token)

    def get(self, path, **parameters):
        """GET of "/Calls/CA….json" and the like."""
        return self._ask("GET", self._base + path, params=parameters)

    def post(self, path, **form):
        return self._ask("POST", self._base + path, data=form)

    def call(self, sid, **form):
        """The state of a call, or with a form its change."""
        return self.post(f"/Calls/{sid}.json", **form) if form else self.get(f"/Calls/{sid}.json")

    def console(self, path):
        """GET of "/nodes" and the like."""
        return self._ask("GET", f"{self.node.http}/console{path}")

    def media(self, path, **headers):
        """The whole response of a GET, for audio."""
        return self._session.get(self._base + path, headers=headers, timeout=30)

    def _ask(self, method, url, **options):
        try:
            answer = self._session.request(method, url, timeout=self._seconds, **options)
        except requests.RequestException as error:
            return 0, {"error": str(error)}
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, {"text": answer.text}

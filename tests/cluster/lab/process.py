"""A program of the lab: its process, its log, and the ways in which it ends."""

import contextlib
import os
import signal
import subprocess


class Process:
    """Starts a program again and again with the same command. Its log is one file for all starts. Start it from the main thread:
    the kernel ends the program when the thread that started it ends."""

    def __init__(self, what, command, log, namespace=None, user=None, environment=None, directory="/"):
        """`what` names the program in errors. `user`: as whom it runs; default: root. `environment`: further variables."""
        # If the test process is killed, nobody else ends the program.
        as_user = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        command = ["setpriv", "--pdeathsig", "KILL", *as_user, "--", *map(str, command)]
        self._command = namespace.command(*command) if namespace else command
        self._what, self._directory = what, directory
        self._environment = os.environ | {name: str(value) for name, value in (environment or {}).items()}
        self.log_path, self.running = log, None

    def start(self):
        """Starts the program. It must not run."""
        assert not self.is_running(), f"{self._what} is running"
        with self.log_path.open("ab") as log:
            self.running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
            )

    @property
    def pid(self):
        return self.running.pid

    def is_running(self):
        return self.running is not None and self.running.poll() is None

    def check(self):
        """Raises with the end of the log if the program has ended."""
        assert self.is_running(), f"{self._what} has ended with {self.running and self.running.returncode}\n{self.log()[-4000:]}"
        return True

    def log(self):
        """What the program has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def send(self, number):
        """Sends a signal to the program and to the processes that it has started."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running.pid, number)

    def kill(self):
        """SIGKILL, and waits for the end."""
        self.send(signal.SIGKILL)
        self.send(signal.SIGCONT)
        if self.running:
            self.running.wait(20)

    def stop(self, number=signal.SIGTERM, seconds=30):
        """Sends a signal to the program alone, waits for its end, and returns its exit code. Kills what does not end."""
        if not self.is_running():
            return self.running and self.running.returncode
        self.running.send_signal(number)
        try:
            return self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self._what} did not end within {seconds} s\n{self.log()[-4000:]}") from None

    def end(self):
        """SIGTERM, and SIGKILL after 5 s. Gives programs with several processes the time to end them."""
        if self.is_running():
            self.running.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.running.wait(5)
        self.kill()

    def freeze(self):
        """SIGSTOP: nothing runs, and the sockets stay open."""
        self.send(signal.SIGSTOP)

    def thaw(self):
        """SIGCONT."""
        self.send(signal.SIGCONT)

"""The program tandem-speech and its models, which a machine may have."""

import os
from pathlib import Path

from .server import binary

MODELS = ("whisper-tiny.en", "piper-en_US-joe-medium")


def models():
    """The directory of the models, or None if this machine does not have all of them and the program."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    folder = Path(os.environ.get("TANDEM_SPEECH_MODELS") or home / "tandem/speech")
    has_all = all((folder / name).is_dir() for name in MODELS)
    return folder.resolve() if has_all and (binary().parent / "tandem-speech").exists() else None

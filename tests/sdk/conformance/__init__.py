"""The conformance run: every operation of Twilio's voice API called, every answer held against what is published."""

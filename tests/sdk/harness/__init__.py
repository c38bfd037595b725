"""What the SDK tests share: a server, SIP phones, a web application, and speech."""

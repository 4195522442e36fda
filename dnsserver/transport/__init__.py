"""Sockets: messages in and out, over UDP and TCP, with limits on what each client may hold."""

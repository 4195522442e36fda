"""The shared nouns and the one store; knows nothing of Docker, DNS messages or nginx."""

"""The wiring of a host, on trees of files and beside servers that say what they are told to."""

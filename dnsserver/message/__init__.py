"""The message format: names, records, questions and answers as octets, and back. Knows nothing of zones."""

"""What would be registered, told without registering anything: inspect, lint, and what Compose files say."""

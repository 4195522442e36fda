"""Service discovery and a dynamic reverse proxy for plain Docker hosts."""

"""Store -> nginx: renders, checks, installs and proves proxy configurations."""

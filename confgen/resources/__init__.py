"""confd's template resources: read, rendered, staged, checked, placed and reloaded."""

"""Our own names: what the catalog's services, hosts and proxies are called, and who stands behind each name."""

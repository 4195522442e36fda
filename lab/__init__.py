"""Docker hosts in network namespaces, with real engines, etcd and nginx: for tests and for `make run`."""

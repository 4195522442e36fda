"""Store -> answers: an authoritative DNS server fed from the catalog."""

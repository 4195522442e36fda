"""Other people's records, as SkyDNS reads and answers them."""

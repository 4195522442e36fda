"""Parts that tests share: fake engines, fault proxies and load checkers."""

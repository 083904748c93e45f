"""Clients outside the cluster: what a user gets through the VIP, asked with real connections."""

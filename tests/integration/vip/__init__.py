"""Faults for edges that carry VIPs, and what they do: read from every edge's kernel and asked by clients outside."""

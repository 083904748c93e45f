"""Faults put into a running lab, and the hop that a trace must name for each."""

"""Runs as one page to read and as pictures to show."""

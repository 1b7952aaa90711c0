"""Shower files of others: one file for each format, which says what is its own and streams it in MeV."""

"""The exact likelihood of showers: what is usual, and how likely given showers are."""

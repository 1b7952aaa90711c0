"""What is known of each shower: summaries, observables, and what they are binned in."""

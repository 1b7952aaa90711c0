"""Fewer steps: a student that does in few passes what its teacher does in many."""

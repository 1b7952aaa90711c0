"""Geant4 itself: a detector and a beam in, a shower file out. Only the worker's process imports the binding."""

"""The plots of a judgement."""

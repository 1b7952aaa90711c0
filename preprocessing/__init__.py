"""Showers in, cleaned, split and scaled: files to network space and back."""

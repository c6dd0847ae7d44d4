"""Measuring what this project claims."""

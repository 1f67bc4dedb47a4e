"""From explanations to numbers."""

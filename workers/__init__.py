"""From bell to recorded result."""

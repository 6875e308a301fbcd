"""What the machine offers over time, and what is already promised."""

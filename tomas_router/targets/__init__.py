"""Says a plan in the words of a scheduler: what each step asks for, what holds it to that, and what gets lost."""

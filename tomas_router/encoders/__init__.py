"""Left and centre panels in torch: tools, profiles, tasks and curves become vectors."""

"""What a thousand waits cost in one process, by one shared watch and by polling."""

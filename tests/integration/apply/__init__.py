"""Publishing on the lab that is up. Each file leaves it as it was."""

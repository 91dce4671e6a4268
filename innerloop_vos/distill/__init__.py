"""How the embedded backbone is made."""

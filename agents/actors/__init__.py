"""Who acts: scripted experts, and what names and run folders stand for."""

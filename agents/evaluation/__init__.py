"""How actors are judged: episodes played, logged, counted and reported."""

"""Everything in one call: demonstrations, trainings, evaluations, tables and pictures."""

"""What every method shares: stages, the train-step factory, state, optimisers, checkpoints."""

"""Search for the weights of the matching losses, with KerasTuner."""

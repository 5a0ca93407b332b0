"""Design spaces: sample a population of networks, train it, read its errors, scale the best."""

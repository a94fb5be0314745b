"""Experiments on real data: loaders, models, the training task and the page that shows it."""

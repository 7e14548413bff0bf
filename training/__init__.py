"""How the packaged network is trained: dataset, teacher, augment, losses, train, evaluate, export, in that order."""

"""What the facts of a machine mean: pure, and asked alike by the checks that judge and the remedies that repair."""

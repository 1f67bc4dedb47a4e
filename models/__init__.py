"""Sound classifiers: front end, adapters, backbones, heads and the bundles they are stored in."""

"""Files, signals and processes: what every room above stands on."""

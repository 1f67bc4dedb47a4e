"""Tools that people run beside the recipes: benchmarks, faults, kills, audits."""

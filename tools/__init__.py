"""What people run beside the recipes: `python -m tools.NAME`.

bench, bench_piq_memory, step_memory, startup, stock, stream: speed and memory. rehearse: the published set-ups.
kills, faults, fuzz, load: what can go wrong. reliability: the tables of docs/reliability.md from their results.
audit: known advisories of the installed packages. The other files are shared by these.
"""

"""Turn measurements and findings into pictures and sentences. Nothing here trains, and nothing re-runs.

`report.build_report` is the whole of it: findings and the frame in, the text of one self-contained page out.
"""

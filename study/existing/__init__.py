"""Results that exist already: a table of runs from anywhere, judged as a study's are.

`reading` turns a file into rows, `trackers` does so for W&B, MLflow and Optuna; `columns` says what the columns are
taken for, `scores` what the score is; `runs` sorts the rows into methods, problems and seeds and counts what can't be
used; `verdicts` holds the methods against their baselines, `caveats` says what that leaves open. The statistics are
those of `study.stats`: there are no others.
"""

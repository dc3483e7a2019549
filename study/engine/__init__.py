"""The engine: Ray Tune runs the agenda's jobs. The modules of this package alone import Ray.

One Tuner and one searcher serve all cells, methods and both stages, so a slot never idles between methods. Ray
executes and retries; we own the results and the resume: a callback in the driver hands every finished run over as
a record, and a resumed study is a new Tuner on what is left. Tune's own restore is not used: with an Optuna store
it aborts on trials that had finished, and it does not restore what our agenda knows.

``slots`` what a run gets · ``cluster`` joins Ray or starts it · ``ray_health`` tells its death · ``bare_ray`` what Ray
keeps to itself, and what is done without · ``worker`` the actor that trains · ``searcher`` hands out jobs · ``watch``
kills what hangs · ``recorder`` turns ends into records · ``lost_workers`` what Ray says of them · ``gauges`` live
numbers for Prometheus · ``landscapes`` lines and planes · ``drive`` puts them together.
"""

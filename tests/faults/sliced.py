"""The command ``python -m study.run`` with slices of one epoch, so that the shortest run is saved like a long one."""

import runpy

from study.engine.drive import run_agenda

if __name__ == "__main__":
    (run_agenda.__kwdefaults__ or {})["slice_s"] = 1e-6
    runpy.run_module("study.run", run_name="__main__", alter_sys=True)

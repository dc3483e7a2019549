"""All benchmarks, one after the other, and what they found once more at the end: ``make bench``.

    PYTHONPATH=.:tests python -m benchmarks.everything [NAME ...]

A name is that of a file without ``bench_`` and ``.py``; options are given to a benchmark alone: ``--help`` lists them.
"""

import argparse
import subprocess
import sys

from benchmarks.conditions import HERE, header, python

NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def tables(output: str) -> str:
    """Return the lines of a benchmark's output that are tables; all of it where there is none."""
    found = [line for line in output.splitlines() if line.startswith("|")]
    return "\n".join(found) if found else output.strip()


def run(name: str) -> tuple[int, str]:
    """Run one benchmark; show its output as it comes, and return its exit code and the output."""
    lines = []
    with subprocess.Popen(python("-u", "-m", f"benchmarks.bench_{name}"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def main() -> int:
    """Run what is asked for; return 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=NAMES, metavar="NAME", help=", ".join(NAMES))
    found = {}
    for name in parser.parse_args().names:
        print(f"\n== {name}", flush=True)
        found[name] = run(name)
    print(f"\n== results\n{header()}")
    for name, (code, output) in found.items():
        print(f"\n{name}" + (f": failed with exit code {code}" if code else ""))
        print(tables(output))
    return int(any(code for code, _ in found.values()))


if __name__ == "__main__":
    sys.exit(main())

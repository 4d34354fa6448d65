"""All benchmarks that need no extra packages, each in a process of its own, one after the other.

.venv/bin/python -m benchmarks [--docs]
"""

import subprocess
import sys

from benchmarks import result

ALL = (
    *("iris_grid", "packs", "empty_jobs"),
    *("yard.submit", "yard.read", "yard.claim", "yard.claim_all", "yard.delete"),
    "engine",
)


def main() -> None:
    result.parser(__doc__).parse_args()
    for number, benchmark in enumerate(ALL, 1):
        print(f"{number} of {len(ALL)}: benchmarks.{benchmark}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{benchmark}", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()

"""A trainer starts quickly: what takes seconds to import and is not needed is not imported."""

import subprocess
import sys

TRAIN = """
import sys
from jobs import engine
from jobs.catalogue import tasks
from jobs.spec import Answer, Assignment, JobSpec, Objective
from jobs.store import Store

def assignment(job, task, optimizer):
    spec = JobSpec(job=job, sweep=1, sweep_uid="u", task=task, params={"optimizer": optimizer}, seed=0, epochs=1,
                   objective=tasks()[task].objective)
    return Assignment(spec=spec, attempt=1)

def go_on(epochs, room):
    return [Answer.GO_ON] * len(epochs)

work = [("iris", "adam"), ("breast_cancer", "adamw"), ("digits", "rmsprop"), ("sine", "sgd")]
pack = [assignment(job, *what) for job, what in enumerate(work)]
options = engine.Options(device="cpu", checkpoint_seconds=0)
outcomes = list(engine.train(pack, store=Store(sys.argv[1]), options=options, report=go_on))
assert [type(outcome).__name__ for outcome in outcomes] == ["TrainResult"] * 4, outcomes
print(*sorted({"torch._dynamo", "sympy", "sklearn", "pandas", "sqlalchemy", "celery"} & set(sys.modules)))
"""


def test_training_imports_neither_dynamo_nor_scikit_learn_nor_pandas(tmp_path: object) -> None:
    """The second time: the first may load the data sets from scikit-learn, and keeps them."""
    for _ in range(2):
        trained = subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path)], capture_output=True, text=True)
        assert trained.returncode == 0, trained.stderr
    assert trained.stdout.split() == []

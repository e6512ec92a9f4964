"""The Ray cluster of a study: started here, or joined, whose nodes then get the code that workers need."""

import json
import logging
import re
import sys
import sysconfig
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from record.resources import Resources
from record.same import plain
from record.study import Study, StudyError
from search.backends.places import places
from search.storage import HaltedError

OURS = "repmlp", "spaces", "record", "search"
"""Packages that workers import."""
COMING = 600.0
"""Seconds in which a cluster that was joined may get its first node for a trial."""


def shipped(study: Study) -> list[ModuleType]:
    """Return the packages that the nodes of a cluster get, so that none needs a checkout: ours, and what a study names.

    Libraries that are installed are left out; nodes have their own.
    """
    named = re.findall(r'"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_][\w.]*"', json.dumps(plain(study)))
    theirs = [import_module(name) for name in sorted({*named} - {*OURS}) if find_spec(name)]
    installed = {Path(path).resolve() for path in map(sysconfig.get_path, ("purelib", "platlib", "stdlib"))}
    own = [m for m in theirs if not installed & {*Path(m.__file__ or ".").resolve().parents}]
    return [*map(import_module, OURS), *own]


def room(resources: Resources) -> int:
    """Return how many trials have room at once; a cluster that was joined may still get the nodes for the first one.

    There trials that find no room wait for it in Ray, so that nodes which come later are used, and an autoscaler knows.

    Raises:
        StudyError: if there is no room for even one.
    """
    begun, waited, wanted = time.monotonic(), False, {"CPU": resources.cpus, "GPU": resources.gpus}
    while True:
        try:
            found = places(resources, ray.cluster_resources(), "Ray")
        except StudyError as error:
            if resources.address is None or time.monotonic() - begun > COMING:
                raise
            if not waited:
                print(f"Waiting {COMING / 60:.0f} minutes for nodes to come: {error}", file=sys.stderr)
            waited = True
            request_resources(bundles=[wanted] * resources.workers)
            time.sleep(1)
        else:
            if waited:
                request_resources(bundles=[])
            return found


def connect(study: Study) -> bool:
    """Join the cluster that the study names, or start Ray here; returns whether a connection was made.

    Raises:
        StudyError: if there is no such cluster.
        HaltedError: if Ray cannot be started here.
    """
    resources = study.resources
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost worker is retried, or recorded with its reason
    if ray.is_initialized():
        return False
    here_or_there: dict[str, Any] = {"include_dashboard": False}
    if resources.address is not None:
        here_or_there = {"runtime_env": {"py_modules": shipped(study)}}
    try:
        ray.init(
            address=resources.address or "local",  # None would look for one, and hang on what one that died has left
            log_to_driver=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            **here_or_there,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise StudyError(f"no Ray cluster at {resources.address!r}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # Ray has no class for a node of its own that dies while it starts
        raise HaltedError(f"Ray could not be started: {' '.join(str(error).split())}") from None
    return True

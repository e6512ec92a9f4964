"""Turn a finished run, whose trials were all trained to the end, into a recorded table.

The throughput of every converted network is measured again, and the seconds of one epoch of training on one thread,
with nothing else running: those of the run depend on what ran beside it. First
`python run_search.py benchmarks/tables/cifar16.yaml data.root=FOLDER` (about an hour on two cores), then
`python -m benchmarks.record_table runs/cifar16 benchmarks/tables/cifar16.parquet` (about ten minutes).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from record.run import open_run
from record.same import plain, what_data
from repmlp import build, config_from_dict
from search.backends.tables import Table, write_table
from search.measuring.costs import input_shape
from search.measuring.points import measure
from search.networks import Description
from search.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    complete = run.trials[run.trials["outcome"] == "complete"]
    conditions = run.study.points[run.study.first]
    throughput = {}
    for deploy_id, config in complete.drop_duplicates("deploy_id").set_index("deploy_id")["config"].items():
        network = config_from_dict(config)
        measured = measure(build(network, deploy=True), input_shape(network), conditions, "cpu")
        throughput[deploy_id] = measured.median
        print(deploy_id, f"{measured.median:,.0f} ({measured.p10:,.0f}-{measured.p90:,.0f}) img/s", flush=True)
    data, recipe = run.study.data, run.study.training
    torch.set_num_threads(1)
    seconds = []
    for count, config in enumerate(complete["config"], 1):
        seconds.append(Trainer(config_from_dict(config), data, recipe, 0, "cpu").train_epoch().seconds)
        print(f"{count}/{len(complete)}: {seconds[-1]:.1f} s an epoch", flush=True)
    curves = [run.epochs[run.epochs["trial"] == number].sort_values("epoch") for number in complete.index]
    rows = complete.to_dict("records")
    descriptions = [
        Description(r["config"], r["training_id"], r["deploy_id"], {"params": int(r["params"]), "macs": int(r["macs"])})
        for r in rows
    ]
    first = rows[0]["config"]
    table = Table(
        name=arguments.out.stem,
        space=run.study.space,
        image=(first["in_channels"], tuple(first["size"]), first["classes"]),
        descriptions=descriptions,
        accuracy=np.array([c["accuracy"].to_numpy() for c in curves]),
        seconds=np.repeat(np.array(seconds)[:, None], len(curves[0]), 1),
        throughput=np.array([throughput[d.deploy_id] for d in descriptions]),
    )
    study, environment = plain(run.study), run.environments[-1]
    about = {"study": {**study, "data": what_data(run.study)}, "environment": {**environment, "command": None}}
    write_table(arguments.out, table, about)
    whole = table.space.count(*table.image)
    print(json.dumps({"networks": len(descriptions), "of": whole, "bytes": arguments.out.stat().st_size}))


if __name__ == "__main__":
    main()

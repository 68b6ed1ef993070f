#!/usr/bin/env python3
"""Holds the engine `ort` against the engine `plan` on real models and data, on each provider; prints Markdown.

usage: providers.py --tractlet BIN --models DIR --data DIR [--providers cpu,cuda] [--batches 1,256] [--forms f32,...]

--models has <model>_<form>.onnx, --data <model>_x.npy and <model>_y.npy. BIN is built with the feature `ort`. Exits 1 where
a model does not run, or where the engines disagree by more than float arithmetic explains: on float models in one of a
thousand samples, on exactly computed int8 models in one of fifty. Needs numpy.
"""
import argparse, json, pathlib, subprocess, sys, tempfile, threading, time
import numpy as np

MODELS = ["kws_dscnn", "har_cnn1d_6ch", "har_cnn1d_9ch", "ic_resnet8", "ic_resnet8_large", "vww_mobilenetv1",
          "ad_autoencoder", "sww_conv1d"]
# An autoencoder has no classes: what counts is how far outputs are apart.
NO_CLASSES = {"ad_autoencoder"}
SAMPLES = 1000


class Failed(Exception):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tractlet", "models", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--providers", default="cpu")
    parser.add_argument("--batches", default="1,256")
    parser.add_argument("--threads", type=int, default=1, help="of an inference on the CPU")
    parser.add_argument("--forms", default="f32,int8_qdq_minmax")
    args = parser.parse_args()
    providers, batches = args.providers.split(","), [int(batch) for batch in args.batches.split(",")]
    rates = [f"{batch} a run" for batch in batches]
    columns = ["model", "provider", "nodes there", "SQNR dB", "same class", "quality plan", "quality ort", *rates,
               "eval, samples/s", "GPU MiB"]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    bad = []
    for model in MODELS:
        for form in args.forms.split(","):
            for provider in providers:
                try:
                    row = measure(args, model, form, provider, batches)
                except Failed as failure:
                    bad.append(f"{model} {form} on {provider}: {failure}")
                    row = ["does not run"]
                print("| " + " | ".join([f"{model} {form}", provider, *row]) + " |", flush=True)
                if len(row) > 1 and not agrees(model, form, row):
                    bad.append(f"{model} {form} on {provider}: it disagrees with the plan engine: {row}")
    for line in bad:
        print(line, file=sys.stderr)
    sys.exit(1 if bad else 0)


def agrees(model, form, row):
    sqnr, same = float(row[1]), float(row[2])
    if model in NO_CLASSES:
        return sqnr > (60 if form == "f32" else 20)
    return same >= (0.999 if form == "f32" else 0.98)


def measure(args, model, form, provider, batches):
    path = f"{args.models}/{model}_{form}.onnx"
    ort = ["--engine", "ort", "--provider", provider, *(["--exact"] if provider == "cpu" and "qdq" in form else [])]
    nodes = tractlet(args, "inspect", path, *ort)["nodes"]
    there = sum(node["provider"].lower().startswith(provider) for node in nodes)
    with tempfile.TemporaryDirectory() as folder:
        some = f"{folder}/x.npy"
        np.save(some, np.load(f"{args.data}/{model}_x.npy", mmap_mode="r")[:SAMPLES])
        both = ["--engine-a", "plan", "--engine-b", "ort", *ort[2:]]
        compared = tractlet(args, "compare", path, path, "--inputs", some, *both)["output"]
    metric = ["--metric", "auc", "--group", "196"] if model in NO_CLASSES else []
    data = ["--inputs", f"{args.data}/{model}_x.npy", "--labels", f"{args.data}/{model}_y.npy", *metric]
    plan = tractlet(args, "eval", path, *data, "--engine", "plan")
    whole = tractlet(args, "eval", path, *data, *ort, "--batch", str(batches[-1]))
    rates, memory = [], 0
    for batch in batches:
        with GpuMemory(provider) as gpu:
            threads = ["--threads", str(args.threads if provider == "cpu" else 1)]
            bench = tractlet(args, "bench", path, *ort, *threads, "--batch", str(batch))
        rates.append(f"{bench['throughput_per_s']:,.0f}")
        memory = max(memory, gpu.most)
    return [f"{there} of {len(nodes)}", f"{compared['sqnr_db']:.1f}", f"{compared['top1_agreement']:.4f}",
            f"{plan['value']:.4f}", f"{whole['value']:.4f}", *rates, f"{whole['samples_per_second']:,.0f}",
            str(memory) if memory else "-"]


def tractlet(args, *arguments):
    run = subprocess.run([args.tractlet, *arguments, "--json"], capture_output=True, text=True)
    if run.returncode:
        raise Failed(run.stderr.strip())
    return json.loads(run.stdout)


class GpuMemory:
    """By how much the first GPU's used memory rises while something runs, in MiB."""

    def __init__(self, provider):
        self.wanted, self.most, self.done = provider != "cpu", 0, threading.Event()

    def __enter__(self):
        if self.wanted:
            self.before = self.used()
            self.thread = threading.Thread(target=self.watch)
            self.thread.start()
        return self

    def __exit__(self, *_):
        if self.wanted:
            self.done.set()
            self.thread.join()

    def watch(self):
        while not self.done.is_set():
            self.most = max(self.most, self.used() - self.before)
            time.sleep(0.05)

    @staticmethod
    def used():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        return int(subprocess.check_output(query, text=True).split()[0])


if __name__ == "__main__":
    main()

"""soak.py TRACTLET [--minutes M]: a stream for so long, in its sandbox, with a sensor, a disk and a network that misbehave.

Frames come through a socket, at a steady rate. Every few seconds one thing goes wrong: lines that are no frames, half a line and a
hang-up, silence, more frames at once than can wait, a model that is exchanged, or cut off, or removed while the stream is to load
it, a client that asks for metrics and never finishes. Once a second the process is looked at. What has to hold at the end: private
memory does not grow, no file descriptor is left behind, every frame is accounted for, and neither the processor time of a window nor
the 99th percentile of latency is more than 5 % above the first third's in the last. The two times are judged only where the
stream had a processor when it wanted one: others on the machine take caches as well, and both times rise and fall with them. On
one that has other work, `chrt --fifo 1` before the command (as root) is a way to that. Needs nothing but Python.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MODEL = Path(__file__).resolve().parent.parent / "models/har_cnn1d"
FRAMES_PER_SECOND = 3200
FRAMES_OF_A_BURST = 20_000
# Windows right behind a fault wait in a queue, as they should; what is compared is the steady state.
SETTLING_S = 2.0
# Of the time that a stream wanted a processor, what it may have waited for one for its times to be its own.
WAITED = 0.05


def frame(index):
    return f"{0.1 + index % 7 * 0.01:.2f},0.2,0.9,0.0,0.1,-0.1\n".encode()


LINES = b"".join(frame(index) for index in range(320))


def on_processors(process):
    """Nanoseconds that its threads had a processor, and that they waited for one."""
    ran = waited = 0
    for thread in (process / "task").iterdir():
        try:
            had, lacked, _ = (thread / "schedstat").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the one that loads a model has ended meanwhile
        ran, waited = ran + int(had), waited + int(lacked)
    return ran, waited


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Soak:
    def __init__(self, tractlet, folder):
        self.folder = Path(folder) / "model"
        shutil.copytree(MODEL, self.folder)
        self.model = self.folder / "int8.onnx"
        self.pristine = self.model.read_bytes()
        self.port, self.metrics = free_port(), free_port()
        self.stop, self.fault_at, self.warm_at = threading.Event(), 0.0, None
        self.latencies, self.faults, self.samples, self.times = [], {}, [], []
        self.windows = 0
        self.summary, self.unanswered = None, 0
        self.started = time.monotonic()
        self.log = tempfile.TemporaryFile()
        command = [tractlet, "stream", self.folder, "--source", f"tcp-listen:127.0.0.1:{self.port}", "--sink", "json:-"]
        command += ["--metrics", f"127.0.0.1:{self.metrics}", "--sandbox", "--overflow", "drop-oldest", "--max-malformed", "1000", "--reconnect", "0.2"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        self.link = None

    def seconds(self):
        return time.monotonic() - self.started

    def connect(self):
        while not self.stop.is_set():
            try:
                self.link = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                return
            except OSError:
                time.sleep(0.05)

    def send(self, data):
        try:
            self.link.sendall(data)
        except OSError:
            self.connect()

    def read(self):
        for line in self.process.stdout:
            decision = json.loads(line)
            if "summary" in decision:
                self.summary = decision["summary"]
                continue
            self.windows += 1
            if self.seconds() - self.fault_at > SETTLING_S:
                self.latencies.append((self.seconds(), decision["latency_us"]))

    def look(self):
        process = Path(f"/proc/{self.process.pid}")
        while not self.stop.wait(1):
            # Page by page: the counts in `status` are added up now and then only.
            lines = (process / "smaps_rollup").read_text().splitlines()[1:]
            kib = {key: int(rest.split()[0]) for key, rest in (line.split(":", 1) for line in lines)}
            ran, waited = on_processors(process)
            steady = self.seconds() - self.fault_at > SETTLING_S + 1
            self.times.append((self.seconds(), ran, waited, self.windows, steady))
            self.samples.append((self.seconds(), kib["Rss"], kib["Anonymous"], len(os.listdir(process / "fd"))))

    # Faults: what happens, and the state to go on from.

    def malformed(self):
        self.send(b"no,frame,at,all\n\xff\xfe\n,,,,,\n1e999,0,0,0,0,0\n" * 20)

    def hang_up(self):
        self.send(b"0.1,0.2,0.")
        self.link.close()
        self.connect()

    def silence(self):
        time.sleep(1.5)

    def burst(self):
        self.send(LINES * (FRAMES_OF_A_BURST // 320))

    def exchange(self):
        self.process.send_signal(signal.SIGHUP)

    def cut_off(self):
        self.model.write_bytes(self.pristine[: random.randrange(len(self.pristine))])
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.model.write_bytes(self.pristine)

    def remove(self):
        self.model.unlink()
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.model.write_bytes(self.pristine)

    def slow_client(self):
        with socket.create_connection(("127.0.0.1", self.metrics), timeout=5) as client:
            client.sendall(b"GET /met")
            time.sleep(0.2)

    def scrape(self):
        with socket.create_connection(("127.0.0.1", self.metrics), timeout=5) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            # Behind a client that does not finish, or on a machine that is busy, it may be sent away.
            self.unanswered += not client.recv(4096).startswith(b"HTTP/1.1 200")

    def run(self, minutes):
        self.connect()
        for work in (self.read, self.look):
            threading.Thread(target=work, daemon=True).start()
        choose = random.Random(1)
        kinds = [self.malformed, self.hang_up, self.silence, self.burst, self.exchange, self.cut_off, self.remove,
                 self.slow_client, self.scrape]
        choose.shuffle(kinds)
        end, due = self.seconds() + 60 * minutes, 5.0
        pace = time.monotonic()
        while self.seconds() < end and self.process.poll() is None:
            self.send(LINES)
            pace = max(pace + 320 / FRAMES_PER_SECOND, time.monotonic() - 1)
            time.sleep(max(0.0, pace - time.monotonic()))
            if self.seconds() > due:
                # Each once first, as quickly as may be: only then has everything been used.
                count = sum(self.faults.values())
                fault = kinds[count] if count < len(kinds) else choose.choice(kinds)
                self.fault_at = self.seconds()
                fault()
                self.fault_at = self.seconds()
                self.faults[fault.__name__] = self.faults.get(fault.__name__, 0) + 1
                if count + 1 == len(kinds):
                    self.warm_at = self.seconds()
                due = self.seconds() + (choose.uniform(4, 10) if self.warm_at else 1.5)
        self.stop.set()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def slope_per_minute(points):
    """Least squares."""
    times, values = zip(*points)
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    return 60 * sum((t - mean_t) * (v - mean_v) for t, v in points) / spread


def p99(latencies):
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def share_waited(times):
    """Of the time that it wanted a processor, what it waited for one."""
    (_, ran, waited, *_), (_, ran_then, waited_then, *_) = times[0], times[-1]
    return (waited_then - waited) / max(1, ran_then - ran + waited_then - waited)


def us_a_window(times):
    """Processor time, the median over the seconds in which nothing went wrong."""
    pairs = [(one, other) for one, other in zip(times, times[1:]) if other[4] and other[3] > one[3]]
    return statistics.median((other[1] - one[1]) / (other[3] - one[3]) for one, other in pairs) / 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tractlet")
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(args.tractlet, folder)
        try:
            code = soak.run(args.minutes)
        finally:
            soak.process.kill()
        time.sleep(0.2)
    if soak.warm_at is None:
        sys.exit(f"{args.minutes} minutes are too short for each fault to happen once")
    steady = [sample for sample in soak.samples if sample[0] > soak.warm_at]
    third = (soak.seconds() - soak.warm_at) / 3

    def thirds(points):
        first = [point for point in points if 0 < point[0] - soak.warm_at < third]
        return first, [point for point in points if point[0] - soak.warm_at > 2 * third]

    first, last = (p99([us for _, us in part]) for part in thirds(soak.latencies))
    cpu_first, cpu_last = (us_a_window(part) for part in thirds(soak.times))
    waited = [share_waited(part) for part in thirds(soak.times)]
    slope = slope_per_minute([(at, anon) for at, _, anon, _ in steady])
    fds = [fds for _, _, _, fds in steady]
    count = soak.summary or {}
    parts = sum(count.get(part, 0) for part in ("answered", "dropped", "stranded", "malformed", "skipped", "remainder"))
    drift, cpu_drift = 100 * (last / first - 1), 100 * (cpu_last / cpu_first - 1)
    quiet = max(waited) < WAITED

    def judged(drift):
        return (f"{drift:+.1f}", drift <= 5) if quiet else (f"{drift:+.1f}, which says nothing: it had to wait", None)

    rows = [
        ("exit code", code, code == 0),
        ("resident, first and last KiB", f"{steady[0][1]} {steady[-1][1]}", None),
        ("private, first and last KiB", f"{steady[0][2]} {steady[-1][2]}", None),
        ("private, KiB a minute", f"{slope:+.2f}", abs(slope) * args.minutes < 0.02 * steady[0][2]),
        ("file descriptors, first and last", f"{fds[0]} {fds[-1]}", fds[-1] <= min(fds) + 1),
        ("waited for a processor, thirds, %", " ".join(f"{100 * share:.1f}" for share in waited), None),
        ("processor time a window, thirds, us", f"{cpu_first:.0f} {cpu_last:.0f}", None),
        ("drift of that, %", *judged(cpu_drift)),
        ("p99 of latency, thirds, us", f"{first} {last}", None),
        ("drift of that, %", *judged(drift)),
        ("windows", count.get("windows"), None),
        ("frames read", count.get("read"), count.get("read") == parts),
        ("of them dropped, stranded, malformed", " ".join(str(count.get(part)) for part in ("dropped", "stranded", "malformed")), None),
        ("reloads, refused", f"{count.get('reloads')} {count.get('reloads_refused')}", None),
        ("scrapes without an answer", soak.unanswered, None),
        ("reconnects", count.get("reconnects"), None),
        ("faults", " ".join(f"{name} {times}" for name, times in sorted(soak.faults.items())), None),
    ]
    if code != 0:
        soak.log.seek(0)
        sys.stderr.write(soak.log.read().decode()[-2000:])
    for what, value, holds in rows:
        print(f"{what:36} {value}{'' if holds is None else '  holds' if holds else '  DOES NOT HOLD'}")
    sys.exit(any(holds is False for _, _, holds in rows))


if __name__ == "__main__":
    main()

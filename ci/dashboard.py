#!/usr/bin/env python3
"""Draws docs/how-to/monitor/dashboard.svg: the panels of deploy/grafana/dashboard.json with metrics of a real run.

The run takes 15 minutes on loopback: the emulator as Azure, two gateways, clients that read secrets, one outage of the vault and
one time of throttling, and Prometheus, which has to be installed. Paths of the programs are arguments:

    cargo build -p keyvault-emulator -p dev-host && cargo xtask build service-federated
    ci/dashboard.py --emulator target/debug/keyvault-emulator --prometheus prometheus \\
        --gateway target/debug/dev-host gateway --component target/components/service-federated.wasm
"""

import argparse
import hashlib
import json
import math
import os
import random
import secrets
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/how-to/monitor/dashboard.svg"
MINUTES = 15
# What Grafana puts in place of its variables, for a scrape every five seconds.
VARIABLES = {"$__rate_interval": "30s", "$job": ".+"}
STEP = 5

# Requests on loopback must not go to a proxy of the machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--prometheus", required=True)
    parser.add_argument("--gateway", required=True, nargs=argparse.REMAINDER, help="the command that starts a gateway; last")
    options = parser.parse_args()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            prometheus = start(options, Path(folder), processes)
            ended = time.time()
            PICTURE.write_text(draw(prometheus, ended - MINUTES * 60 + 60, ended), encoding="utf-8")
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def start(options, folder, processes):
    """Starts everything, runs the scenario, and returns the address of Prometheus."""
    names = [f"secret-{number}" for number in range(40)]
    (folder / "secrets.json").write_text(json.dumps({name: secrets.token_hex(8) for name in names}))
    source = "app-service-2017"
    command = [options.emulator, "--secrets", folder / "secrets.json", "--source", source, "--ca-file", folder / "ca.pem"]
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    processes.append(emulator)
    azure, settings = None, {}
    for line in emulator.stdout:
        name, _, value = line.strip().partition("=")
        azure = azure or line.split()[1]
        if name in ("KeyVaultUri", "KEY_VAULT_RESOURCE", "MSI_ENDPOINT", "MSI_SECRET"):
            settings[name] = value
        # The line before the clients ends the settings.
        if line.startswith("#"):
            break
    key, reader = secrets.token_hex(16), secrets.token_hex(16)
    callers = [{"name": "reader", "key_sha256": [sha256(reader)], "secrets": ["secret-1*"]}]
    settings |= {"GATEWAY_KEY": key, "GATEWAY_CALLERS": json.dumps(callers), "GATEWAY_LOG": "error"}
    settings |= {"GATEWAY_CACHE_TTL_SECONDS": "60", "GATEWAY_CALLER_CALLS_PER_SECOND": "100"}
    ports = [free_port(), free_port()]
    for port in ports:
        command = [*options.gateway, "--listen", f"127.0.0.1:{port}"]
        environment = {"PATH": os.environ["PATH"], **settings}
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
    for port in ports:
        wait(f"http://127.0.0.1:{port}/readyz")
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    (folder / "prometheus.yml").write_text(f"""
scrape_configs:
  - job_name: keyvault-gateway
    scrape_interval: {STEP}s
    params: {{code: ["{key}"]}}
    static_configs: [{{targets: [{targets}]}}]
""")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [options.prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    processes.append(subprocess.Popen(command))
    wait(f"{address}/-/ready")
    scenario(azure, [f"http://127.0.0.1:{port}" for port in ports], names, key, reader)
    return address


def scenario(azure, gateways, names, key, reader):
    """Sends requests for `MINUTES`, with an outage of the vault and some throttling."""
    begun = time.monotonic()
    ends = begun + MINUTES * 60

    def client(seed):
        choose = random.Random(seed)
        while time.monotonic() < ends:
            kind = choose.random()
            gateway, caller, path = choose.choice(gateways), key, "/api/GetKeyVaultSecret"
            # Some secrets are read often, others seldom.
            body = {"Secret": names[min(int(choose.expovariate(0.12)), len(names) - 1)]}
            if kind < 0.004:
                caller = "wrong"
            elif kind < 0.010:
                body = {"Secret": "no-such-secret"}
            elif kind < 0.016:
                caller = reader
            elif kind < 0.05:
                path, body = "/api/GetKeyVaultSecrets", {"Secrets": choose.sample(names, 5)}
            post(gateway + path, body, {"x-functions-key": caller})
            minute = (time.monotonic() - begun) / 60
            time.sleep(choose.expovariate(6 + 3 * math.sin(minute / 2)))

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for each in clients:
        each.start()
    for minute, fault in [
        (0, {"upstream": "vault", "delay_ms": 12, "effect": "truth"}),
        (5, {"upstream": "vault", "lasts_ms": 120_000, "delay_ms": 40, "effect": {"status": 503}}),
        (7.1, {"upstream": "vault", "delay_ms": 12, "effect": "truth"}),
        (10, {"upstream": "vault", "lasts_ms": 45_000, "retry_after": "2", "effect": {"status": 429}}),
        (10.8, {"upstream": "vault", "delay_ms": 12, "effect": "truth"}),
    ]:
        time.sleep(max(0, begun + minute * 60 - time.monotonic()))
        DIRECT.open(urllib.request.Request(f"{azure}/emulator/faults", method="DELETE")).close()
        post(f"{azure}/emulator/faults", fault, {})
    for each in clients:
        each.join()


def post(url, body, headers):
    headers = {"content-type": "application/json", **headers}
    try:
        with DIRECT.open(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=15) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()


def wait(url):
    for _ in range(600):
        try:
            return DIRECT.open(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


# The picture.

COLUMN, ROW, GAP = 60, 36, 8
COLOURS = ["#3d8b40", "#1f6fb5", "#c77c02", "#8a4fb0", "#c0392b", "#0b8a8f", "#7a6a2b", "#b83280"]
NAMED = {"green": "#3d8b40", "blue": "#1f6fb5", "yellow": "#d9a400", "orange": "#c77c02", "red": "#c0392b", "purple": "#8a4fb0"}


def draw(prometheus, begins, ends):
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + GAP
    width = 24 * COLUMN + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(dashboard['title'])}</title>",
        f'<rect width="{width}" height="{height}" fill="#eceef1"/>',
    ]
    for panel in panels:
        grid = panel["gridPos"]
        box = (grid["x"] * COLUMN + GAP, grid["y"] * ROW + GAP, grid["w"] * COLUMN - GAP, grid["h"] * ROW - GAP)
        found = [each for target in panel["targets"] for each in series(prometheus, target, begins, ends)]
        parts.append(f'<g transform="translate({box[0]},{box[1]})"><rect width="{box[2]}" height="{box[3]}" rx="3" fill="#fff"/>')
        parts.append(f'<text x="10" y="19" font-weight="600" fill="#24292f">{escape(panel["title"])}</text>')
        kind = stat if panel["type"] == "stat" else lines
        parts += kind(panel, found, box[2], box[3], begins, ends)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def series(prometheus, target, begins, ends):
    """The series of one query, as pairs of a name and points."""
    query = target["expr"]
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    asked = urllib.parse.urlencode({"query": query, "start": begins, "end": ends, "step": STEP})
    with DIRECT.open(f"{prometheus}/api/v1/query_range?{asked}") as answer:
        result = json.load(answer)["data"]["result"]
    for each in sorted(result, key=lambda each: sorted(each["metric"].items())):
        name = target["legendFormat"]
        for label, value in each["metric"].items():
            name = name.replace("{{" + label + "}}", value)
        yield name, [(float(at), float(value)) for at, value in each["values"] if value not in ("NaN", "+Inf")]


def colour(panel, name, index):
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            return NAMED[override["properties"][0]["value"]["fixedColor"]]
    return COLOURS[index % len(COLOURS)]


def stat(panel, found, width, height, begins, ends):
    if not found or not found[0][1]:
        return [f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" fill="#8b949e">No data</text>']
    defaults = panel["fieldConfig"]["defaults"]
    points = found[0][1]
    last = points[-1][1]
    shown = "green"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or last >= step["value"]:
            shown = step["color"]
    top = max(value for _, value in points) or 1
    spots = [(width * (at - begins) / (ends - begins), height - 4 - value / top * height * 0.3) for at, value in points]
    path = " ".join(f"{x:.0f},{y:.1f}" for x, y in spots)
    return [
        f'<polyline points="{path}" fill="none" stroke="{NAMED[shown]}" stroke-opacity="0.45"/>',
        f'<text x="{width / 2}" y="{height * 0.58}" text-anchor="middle" font-size="28" fill="{NAMED[shown]}">'
        f"{escape(text_of(last, defaults['unit'], defaults.get('decimals')))}</text>",
    ]


def lines(panel, found, width, height, begins, ends):
    found = [(name, points) for name, points in found if points and any(value for _, value in points)]
    defaults = panel["fieldConfig"]["defaults"]
    left, right, upper, lower = 62, width - 22, 30, height - 44
    stacked = "stacking" in defaults["custom"]
    if stacked:
        found = stack(found)
    values = [value for _, points in found for _, value in points if value > 0] or [1]
    if "scaleDistribution" in defaults["custom"]:
        # Logarithmic, from one power of ten to another.
        bottom, top = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        ticks = [10.0**power for power in range(bottom, top + 1)]
        share = lambda value: (math.log10(max(value, ticks[0])) - bottom) / max(top - bottom, 1)
    else:
        top = nice(max(values))
        ticks = [top * tick / 4 for tick in range(5)]
        share = lambda value: value / top
    x = lambda at: left + (right - left) * (at - begins) / (ends - begins)
    y = lambda value: lower - (lower - upper) * share(value)
    parts = []
    for value in ticks:
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e3e6ea"/>')
        label = escape(text_of(value, defaults["unit"]))
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" font-size="11" fill="#57606a">{label}</text>')
    for minute in range(0, int((ends - begins) / 60) + 1, 2):
        at = x(begins + minute * 60)
        parts.append(f'<text x="{at:.0f}" y="{lower + 15}" text-anchor="middle" font-size="11" fill="#57606a">{minute} min</text>')
    drawn = list(enumerate(found))
    # Of a stack, the highest area is drawn first.
    for index, (name, points) in reversed(drawn) if stacked else drawn:
        line = [f"{x(at):.1f},{y(value):.1f}" for at, value in points]
        ink = colour(panel, name, index)
        if stacked:
            line = [f"{x(points[0][0]):.1f},{lower}", *line, f"{x(points[-1][0]):.1f},{lower}"]
            parts.append(f'<polygon points="{" ".join(line)}" fill="{ink}"/>')
        else:
            parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{ink}" stroke-width="1.5"/>')
    at = 10
    for index, (name, _) in drawn:
        parts.append(f'<rect x="{at:.0f}" y="{height - 17}" width="10" height="4" fill="{colour(panel, name, index)}"/>')
        parts.append(f'<text x="{at + 14:.0f}" y="{height - 11}" font-size="11" fill="#24292f">{escape(name)}</text>')
        at += 24 + 5.7 * len(name)
    return parts


def stack(found):
    below, stacked = {}, []
    for name, points in found:
        for at, value in points:
            below[at] = below.get(at, 0) + value
        stacked.append((name, [(at, below[at]) for at, _ in points]))
    return stacked


def nice(value):
    """The next number above that divides well by four."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 4, 6, 8, 10) if step * power >= value)


def text_of(value, unit, decimals=None):
    if unit == "percentunit":
        return f"{value * 100:.{decimals or 0}f} %"
    if unit == "s":
        for bound, factor, name in [(1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min")]:
            if value < bound:
                return f"{value * factor:.3g} {name}" if value else "0"
        return f"{value / 3600:.1f} h"
    number = f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}"
    return f"{number} req/s" if unit == "reqps" else number


if __name__ == "__main__":
    main()

"""Reports what waits for a workload whenever it changes, and every 5 s; needs requests alone.

    reporter = Reporter("http://inference-scaler.keda.svc:4318", token, "smallest", "lightning-asr", queue.qsize)
    threading.Thread(target=reporter.run, daemon=True).start()

For https, ca is the file with the CA of the scaler's certificate.
"""

import socket
import time

import requests


class Reporter:
    def __init__(self, url, token, namespace, workload, queued, ca=True):
        self.url = url.rstrip("/") + "/v1/demand"
        self.report = {"namespace": namespace, "workload": workload, "instance": socket.gethostname(), "timeToLive": "15s"}
        self.session = requests.Session()
        self.session.verify = ca
        self.session.headers["Authorization"] = "Bearer " + token
        self.queued = queued

    def send(self, queued):
        samples = [{"name": "demand_queued_requests", "value": queued}]
        body = {**self.report, "sequence": time.time_ns(), "samples": samples}
        reply = self.session.post(self.url, json=body, timeout=2)
        if not reply.ok:
            raise RuntimeError(f"report refused: {reply.status_code} {reply.text}")

    def run(self):
        last, at = None, 0.0
        while True:
            queued = self.queued()
            if queued != last or time.monotonic() - at > 5:
                try:
                    self.send(queued)
                    last, at = queued, time.monotonic()
                except (requests.RequestException, RuntimeError) as error:
                    print("inference-scaler:", error)
                    time.sleep(1)
            time.sleep(0.02)

#!/usr/bin/env python3
"""An API for mosquitto-http-auth: who may log in, and who may do what with which topic.

python3 api_server.py [HOST:PORT]       (default: 127.0.0.1:8080)
"""
import hashlib, hmac, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READ, WRITE, SUBSCRIBE = 1, 2, 4

# Name: salt, scrypt hash, topic rules. The passwords are secret-1 and secret-2.
USERS = {
    "sensor-1": ("df337c99eb96c5f3c659b74624cab338",
                 "166fdbe38d8ad8588ec58eba0c8734c6d0ee627e8dd5ccb052277c2dcb854576",
                 [(WRITE, "sensors/%u/#"), (READ | SUBSCRIBE, "commands/%u")]),
    "dashboard": ("3797d24a0b8cb42a9f87ebbdfc620cdc",
                  "036d3a7f7d222688d9357f708d68c549f613aa4a8a353a92cd26d27aef76fec0",
                  [(READ | SUBSCRIBE, "sensors/#"), (WRITE, "commands/#")]),
}
NOBODY = ("00" * 16, "00" * 32, [])  # refused as slowly as a wrong password


def may_connect(username, password):
    salt, expected, _ = USERS.get(username, NOBODY)
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32)
    return hmac.compare_digest(found, bytes.fromhex(expected))


def may_touch(username, clientid, topic, acc):
    if topic.startswith("$share/"):  # $share/GROUP/FILTER
        topic = topic.split("/", 2)[-1]
    return acc in (1, 2, 3, 4) and any(acc & allowed == acc and covers(pattern.replace("%u", username), topic)
                                       for allowed, pattern in USERS.get(username, NOBODY)[2])


def covers(pattern, topic):  # one topic, or with /# at its end all topics below, and filters for these
    return topic == pattern or pattern.endswith("/#") and topic.startswith(pattern[:-1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # that is, with keep-alive
    timeout = 75                   # seconds; the plugin itself drops unused connections after 60

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        decide = {"/auth": may_connect, "/acl": may_touch}.get(self.path)
        try:
            status = (200 if decide(**json.loads(body)) else 403) if decide else 404
        except (AttributeError, TypeError, ValueError):
            status = 400
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):  # no line for each question
        pass


host, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080").rsplit(":", 1)
ThreadingHTTPServer.request_queue_size = 128  # connections that may wait to be accepted, instead of 5
with ThreadingHTTPServer((host, int(port)), Handler) as server:
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    server.serve_forever()

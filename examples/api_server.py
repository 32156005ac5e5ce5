#!/usr/bin/env python3
"""An API for mosquitto-http-auth: who may log in, and who may do what with which topic.

python3 api_server.py [HOST:PORT]       (default: 127.0.0.1:8080)

POST /auth and /acl need nothing more. Of use with options of the plugin are the rules in the answer to
a login (answer_rules), the client id at the login (auth_fields clientid), and POST /acl-batch (acl_batch_url).
"""
import hashlib, hmac, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READ, WRITE, SUBSCRIBE = 1, 2, 4
ACTIONS = {WRITE: "publish", READ | SUBSCRIBE: "subscribe", READ | WRITE | SUBSCRIBE: "all"}

# Name: salt, scrypt hash, topic rules. The passwords are secret-1 and secret-2.
USERS = {
    "sensor-1": ("df337c99eb96c5f3c659b74624cab338",
                 "166fdbe38d8ad8588ec58eba0c8734c6d0ee627e8dd5ccb052277c2dcb854576",
                 [(WRITE, "sensors/${username}/#"), (READ | SUBSCRIBE, "commands/${username}")]),
    "dashboard": ("3797d24a0b8cb42a9f87ebbdfc620cdc",
                  "036d3a7f7d222688d9357f708d68c549f613aa4a8a353a92cd26d27aef76fec0",
                  [(READ | SUBSCRIBE, "sensors/#"), (WRITE, "commands/#")]),
}
NOBODY = ("00" * 16, "00" * 32, [])  # refused as slowly as a wrong password


def may_connect(username, password, clientid=None, **_):
    salt, expected, _ = USERS.get(username, NOBODY)
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32)
    # Whoever connects under the client id of another takes over its session.
    is_own = clientid is None or clientid == username or clientid.startswith(username + ":")
    return hmac.compare_digest(found, bytes.fromhex(expected)) and is_own


def may_touch(username, clientid, topic, acc, **_):
    if topic.startswith("$share/"):  # $share/GROUP/FILTER
        topic = topic.split("/", 2)[-1]
    return acc in (1, 2, 3, 4) and any(acc & allowed == acc and covers(pattern.replace("${username}", username), topic)
                                       for allowed, pattern in USERS.get(username, NOBODY)[2])


def covers(pattern, topic):  # one topic, or with /# at its end all topics below, and filters for these
    return topic == pattern or pattern.endswith("/#") and topic.startswith(pattern[:-1])


def login(question):  # says with a yes what may_touch would say about each topic
    if not may_connect(**question):
        return 403, None
    acl = [{"permission": "allow", "action": ACTIONS[allowed], "topic": pattern}
           for allowed, pattern in USERS[question["username"]][2]]
    return 200, {"result": "allow", "acl": acl + [{"permission": "deny", "action": "all", "topic": "#"}]}


def topic(question):
    return 200 if may_touch(**question) else 403, None


def topics(question):
    return 200, {"results": [may_touch(**check) for check in question["checks"]]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # that is, with keep-alive
    timeout = 75                   # seconds; the plugin itself drops unused connections after 60

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = {"/auth": login, "/acl": topic, "/acl-batch": topics}.get(self.path)
        try:
            status, more = answer(json.loads(body)) if answer else (404, None)
        except (AttributeError, KeyError, TypeError, ValueError):
            status, more = 400, None
        more = b"" if more is None else json.dumps(more).encode()
        self.send_response(status)
        if more:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(more)))
        self.end_headers()
        self.wfile.write(more)

    def log_message(self, *_):  # no line for each question
        pass


host, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080").rsplit(":", 1)
ThreadingHTTPServer.request_queue_size = 128  # connections that may wait to be accepted, instead of 5
with ThreadingHTTPServer((host, int(port)), Handler) as server:
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    server.serve_forever()

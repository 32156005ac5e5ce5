#!/usr/bin/env python3
"""An API for mosquitto-http-auth in FastAPI, with users and their rights in SQLite.

python3 api_fastapi.py [HOST:PORT]                                  serve (default: 127.0.0.1:8080)
python3 api_fastapi.py user NAME PASSWORD                           add a user, or set its password
python3 api_fastapi.py allow NAME publish|subscribe|all FILTER      let it use topics
python3 api_fastapi.py remove NAME                                  take all of it back

The database is api.db in the current folder, or what API_DB names. A FILTER may hold + and #, and
${username} and ${clientid}, each as a whole level.
Debian: apt install python3-fastapi uvicorn. Elsewhere: pip install fastapi uvicorn.
"""
import hashlib, hmac, os, socket, sqlite3, sys
from contextlib import closing

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rights (name TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
                                   action TEXT NOT NULL CHECK (action IN ('publish', 'subscribe', 'all')),
                                   filter TEXT NOT NULL, PRIMARY KEY (name, action, filter));
"""
ACTION = {1: "subscribe", 2: "publish", 4: "subscribe"}  # read, write, subscribe: the numbers of acc
NOBODY = (bytes(16), bytes(32))                          # refused as slowly as a wrong password


class Login(BaseModel):
    username: str
    password: str
    clientid: str | None = None  # there with auth_fields clientid


class Check(BaseModel):  # what acl_fields adds is ignored
    username: str
    clientid: str
    topic: str
    acc: int


class Checks(BaseModel):
    checks: list[Check]


def database():
    found = sqlite3.connect(os.environ.get("API_DB", "api.db"), timeout=10)
    found.execute("PRAGMA foreign_keys = ON")
    return closing(found)


def hashed(password, salt):
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)


def rights(db, names):  # by name: (action, filter) and more
    found = {name: [] for name in names}
    marks = ",".join("?" * len(found))
    for name, *right in db.execute(f"SELECT name, action, filter FROM rights WHERE name IN ({marks})", list(found)):
        found[name].append(right)
    return found


def may_touch(check, rights):
    topic = check.topic
    if topic.startswith("$share/"):  # $share/GROUP/FILTER
        topic = topic.split("/", 2)[-1]
    wanted = ACTION.get(check.acc)
    return wanted is not None and any(action in (wanted, "all") and covers(filter, topic, check)
                                      for action, filter in rights[check.username])


def covers(filter, topic, check):
    """Whether a filter covers a topic, or every topic that another filter can match."""
    names = {"${username}": check.username, "${clientid}": check.clientid}
    ours, theirs = filter.split("/"), topic.split("/")
    if topic.startswith("$") and ours[0] in ("+", "#", *names):
        return False
    for depth, level in enumerate(ours):
        if level == "#":
            return True
        if depth == len(theirs) or theirs[depth] == "#":
            return False
        if level in names and theirs[depth] == "+" or level != "+" and names.get(level, level) != theirs[depth]:
            return False
    return len(ours) == len(theirs)


app = FastAPI(openapi_url=None)


# Without `async`, FastAPI runs these on its threads: hashing and the database stop nobody else.
@app.post("/auth")
def auth(login: Login):
    with database() as db:
        salt, expected = db.execute("SELECT salt, hash FROM users WHERE name = ?", [login.username]).fetchone() or NOBODY
        is_right = hmac.compare_digest(hashed(login.password, salt), expected)
        # Whoever connects under the client id of another takes over its session.
        is_own = login.clientid in (None, login.username) or login.clientid.startswith(login.username + ":")
        if not (is_right and is_own):
            return Response(status_code=403)
        # Not read without answer_rules. With it, no topic is asked about any more.
        acl = [{"permission": "allow", "action": action, "topic": filter}
               for action, filter in rights(db, [login.username])[login.username]]
        return {"result": "allow", "acl": acl + [{"permission": "deny", "action": "all", "topic": "#"}]}


@app.post("/acl")
def acl(check: Check):
    with database() as db:
        return Response(status_code=200 if may_touch(check, rights(db, [check.username])) else 403)


@app.post("/acl-batch")
def acl_batch(question: Checks):
    with database() as db:  # one query for all
        known = rights(db, {check.username for check in question.checks})
        return {"results": [may_touch(check, known) for check in question.checks]}


def main(command="127.0.0.1:8080", *words):
    with database() as db:
        db.executescript(SCHEMA)
        match command, *words:
            case "user", name, password:
                salt = os.urandom(16)
                db.execute("INSERT INTO users VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET salt = ?2, hash = ?3",
                           [name, salt, hashed(password, salt)])
            case "allow", name, action, filter:
                db.execute("INSERT INTO rights VALUES (?, ?, ?) ON CONFLICT DO NOTHING", [name, action, filter])
            case "remove", name:
                db.execute("DELETE FROM users WHERE name = ?", [name])
            case (address,) if ":" in address:
                return serve(*address.rsplit(":", 1))
            case _:
                sys.exit(__doc__)
        db.commit()


def serve(host, port):
    listener = socket.create_server((host, int(port)), backlog=128)
    print(f"listening on http://{host}:{listener.getsockname()[1]}", flush=True)
    # The plugin itself drops unused connections after 60 s.
    config = uvicorn.Config(app, timeout_keep_alive=75, access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except sqlite3.IntegrityError as error:  # no such user, no such action
        sys.exit(str(error))

#!/usr/bin/env node
// An API for mosquitto-http-auth: who may log in, and who may do what with which topic.
//
// node api_server.mjs [HOST:PORT]       (default: 127.0.0.1:8080)
//
// POST /auth and /acl need nothing more. Of use with options of the plugin are the rules in the answer to
// a login (answer_rules), the client id at the login (auth_fields clientid), and POST /acl-batch (acl_batch_url).
import { scrypt, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { promisify } from "node:util";

const READ = 1, WRITE = 2, SUBSCRIBE = 4;
const ACTIONS = { [WRITE]: "publish", [READ | SUBSCRIBE]: "subscribe", [READ | WRITE | SUBSCRIBE]: "all" };

// Name: salt, scrypt hash, topic rules. The passwords are secret-1 and secret-2.
const USERS = new Map([
  ["sensor-1", ["df337c99eb96c5f3c659b74624cab338",
    "166fdbe38d8ad8588ec58eba0c8734c6d0ee627e8dd5ccb052277c2dcb854576",
    [[WRITE, "sensors/${username}/#"], [READ | SUBSCRIBE, "commands/${username}"]]]],
  ["dashboard", ["3797d24a0b8cb42a9f87ebbdfc620cdc",
    "036d3a7f7d222688d9357f708d68c549f613aa4a8a353a92cd26d27aef76fec0",
    [[READ | SUBSCRIBE, "sensors/#"], [WRITE, "commands/#"]]]],
]);
const NOBODY = ["00".repeat(16), "00".repeat(32), []]; // refused as slowly as a wrong password

async function mayConnect({ username, password, clientid = username }) {
  const [salt, expected] = USERS.get(username) ?? NOBODY;
  const cost = { N: 2 ** 14, r: 8, p: 1 };
  const found = await promisify(scrypt)(password, Buffer.from(salt, "hex"), 32, cost);
  // Whoever connects under the client id of another takes over its session.
  const isOwn = clientid === username || clientid.startsWith(username + ":");
  return timingSafeEqual(found, Buffer.from(expected, "hex")) && isOwn;
}

function mayTouch({ username, topic, acc }) {
  if (topic.startsWith("$share/")) topic = topic.split("/").slice(2).join("/"); // $share/GROUP/FILTER
  const [, , rules] = USERS.get(username) ?? NOBODY;
  return [1, 2, 3, 4].includes(acc) && rules.some(([allowed, pattern]) =>
    (acc & allowed) === acc && covers(pattern.replaceAll("${username}", () => username), topic));
}

// One topic, or with /# at its end all topics below, and filters for these.
function covers(pattern, topic) {
  return topic === pattern || pattern.endsWith("/#") && topic.startsWith(pattern.slice(0, -1));
}

const ANSWERS = {
  "POST /auth": async (question) => { // says with a yes what mayTouch would say about each topic
    if (!await mayConnect(question)) return [403];
    const acl = USERS.get(question.username)[2].map(([allowed, topic]) =>
      ({ permission: "allow", action: ACTIONS[allowed], topic }));
    return [200, { result: "allow", acl: [...acl, { permission: "deny", action: "all", topic: "#" }] }];
  },
  "POST /acl": (question) => [mayTouch(question) ? 200 : 403],
  "POST /acl-batch": (question) => [200, { results: question.checks.map(mayTouch) }],
};

async function answer(request) {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const find = ANSWERS[`${request.method} ${request.url}`];
    return find ? await find(JSON.parse(Buffer.concat(chunks))) : [404];
  } catch {
    return [400];
  }
}

const [host, port] = (process.argv[2] ?? "127.0.0.1:8080").split(":");
const server = createServer(async (request, response) => {
  const [status, more] = await answer(request);
  const body = more ? JSON.stringify(more) : "";
  const type = more && { "Content-Type": "application/json" };
  response.writeHead(status, { ...type, "Content-Length": Buffer.byteLength(body) }).end(body);
});
server.keepAliveTimeout = 75_000; // the plugin itself drops unused connections after 60 s
server.listen(port, host, () => console.log(`listening on http://${host}:${server.address().port}`));

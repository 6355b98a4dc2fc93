// SPDX-License-Identifier: MIT
// xmppjs.mjs STARTTLS_PORT TLS_PORT: two @xmpp/client users log in, chat and ask; one line per test, then the sum.
import { webcrypto } from "node:crypto";
import { client, xml } from "@xmpp/client";

globalThis.crypto ??= webcrypto; // Debian's Node 18 has it under another name

const [starttls, tls] = process.argv.slice(2);
let passed = 0, failed = 0;

function user(username, service) {
  const xmpp = client({ service, domain: "localhost", username, password: "secret", resource: "js" });
  xmpp.reconnect.stop();
  xmpp.timeout = 20000; // its PBKDF2 is JavaScript and holds up everything else for seconds on a busy machine
  xmpp.on("error", () => {});
  xmpp.message = () => new Promise((resolve) => xmpp.on("stanza", (s) => s.is("message") && s.getChild("body") && resolve(s)));
  return xmpp;
}

async function test(name, fn) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("nothing for 60 s")), 60000); });
  try {
    await Promise.race([fn(), late]);
    passed++;
    console.log("ok " + name);
  } catch (err) {
    failed++;
    console.log("not ok " + name + "\n    " + (err.stack || err));
  }
  clearTimeout(timer);
}

for (const [name, service] of [["STARTTLS", "xmpp://127.0.0.1:" + starttls], ["direct TLS", "xmpps://127.0.0.1:" + tls]]) {
  await test("two users chat over " + name, async () => {
    const romeo = user("romeo", service), juliet = user("juliet", service);
    await Promise.all([romeo.start(), juliet.start()]);
    await juliet.send(xml("presence"));
    const got = juliet.message();
    await romeo.send(xml("message", { to: "juliet@localhost/js", type: "chat" }, xml("body", {}, "🌹 & <b>")));
    const stanza = await got;
    if (stanza.attrs.from !== "romeo@localhost/js") throw new Error("from " + stanza.attrs.from);
    if (stanza.getChildText("body") !== "🌹 & <b>") throw new Error("body " + stanza.getChildText("body"));
    await Promise.all([romeo.stop(), juliet.stop()]);
  });
}

await test("iq: ping, and an error for what nobody handles", async () => {
  const romeo = user("romeo", "xmpp://127.0.0.1:" + starttls);
  await romeo.start();
  await romeo.iqCaller.request(xml("iq", { type: "get", to: "localhost" }, xml("ping", "urn:xmpp:ping")));
  let condition;
  try {
    await romeo.iqCaller.request(xml("iq", { type: "get", to: "localhost" }, xml("query", "urn:example:nothing")));
  } catch (err) {
    condition = err.condition;
  }
  if (condition !== "service-unavailable") throw new Error("condition " + condition);
  await romeo.stop();
});

await test("a wrong password is told apart", async () => {
  const romeo = client({ service: "xmpp://127.0.0.1:" + starttls, domain: "localhost", username: "romeo", password: "wrong" });
  romeo.reconnect.stop();
  romeo.timeout = 20000;
  romeo.on("error", () => {});
  let condition;
  try {
    await romeo.start();
  } catch (err) {
    condition = err.condition;
  }
  await romeo.stop().catch(() => {});
  if (condition !== "not-authorized") throw new Error("condition " + condition);
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

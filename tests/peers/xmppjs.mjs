// SPDX-License-Identifier: MIT
// xmppjs.mjs STARTTLS_PORT TLS_PORT: two @xmpp/client users log in, chat and ask; one line per test, then the sum.
import { webcrypto } from "node:crypto";
import { client, xml } from "@xmpp/client";

globalThis.crypto ??= webcrypto; // Debian's Node 18 has it under another name

const [starttls, tls] = process.argv.slice(2);
let passed = 0, failed = 0;

const AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770";

function user(username, service, more) {
  const xmpp = client({ service, domain: "localhost", username, password: "secret", resource: "js", ...more });
  xmpp.reconnect.stop();
  xmpp.timeout = 20000; // its PBKDF2 is JavaScript and holds up everything else for seconds on a busy machine
  xmpp.on("error", () => {});
  // Its open() listens for the answer only once its write is confirmed, and over TLS a near server is faster than that. With the
  // old SASL the next stream's header makes up for it.
  const write = xmpp.write.bind(xmpp);
  xmpp.write = async (text) => void write(text).catch(() => {});
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
    await romeo.send(xml("message", { to: juliet.jid.toString(), type: "chat" }, xml("body", {}, "🌹 & <b>")));
    const stanza = await got;
    if (stanza.attrs.from !== romeo.jid.toString()) throw new Error("from " + stanza.attrs.from);
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

// SASL2, Bind 2 and FAST: the client takes what is offered without being told.
await test("one round trip: a token, and a login with it", async () => {
  const saved = [], sent = [];
  const login = async () => {
    const userAgent = xml("user-agent", { id: AGENT }, xml("software", {}, "xmpp.js"));
    const xmpp = user("romeo", "xmpps://127.0.0.1:" + tls, { userAgent });
    xmpp.fast.saveToken = async (token) => void saved.push(token);
    xmpp.fast.fetchToken = async () => saved.at(-1);
    xmpp.on("element", (e) => e.is("success", "urn:xmpp:sasl:2") && sent.push(e));
    await xmpp.start();
    if (!/^romeo@localhost\/js\//.test(xmpp.jid.toString())) throw new Error("bound as " + xmpp.jid);
    await xmpp.send(xml("presence"));
    await xmpp.iqCaller.request(xml("iq", { type: "get", to: "localhost" }, xml("ping", "urn:xmpp:ping")));
    const jid = xmpp.jid.toString(), mechanism = xmpp.fast.mechanism;
    await xmpp.stop();
    return [jid, mechanism];
  };
  const first = await login(), second = await login();
  if (saved.length !== 1) throw new Error(saved.length + " tokens");
  if (first[1] !== "HT-SHA-256-NONE") throw new Error("mechanism " + first[1]);
  if (first[0] !== second[0]) throw new Error("bound as " + first[0] + ", then " + second[0]);
  if (sent.length !== 2) throw new Error(sent.length + " successes");
  if (sent[1].getChild("token")) throw new Error("a token again");

  saved[0] = { ...saved[0], token: saved[0].token.replace(/^.../, "xxx") }; // refused, it takes the password, and a new token
  await login();
  if (saved.length !== 2 || saved[1].token === saved[0].token) throw new Error("no other token");
});

await test("a broken connection is resumed along with the login", async () => {
  const romeo = user("romeo", "xmpps://127.0.0.1:" + tls), juliet = user("juliet", "xmpps://127.0.0.1:" + tls);
  await Promise.all([romeo.start(), juliet.start()]);
  await romeo.send(xml("presence"));
  const jid = romeo.jid.toString(), id = romeo.streamManagement.id;
  if (!id) throw new Error("stream management is off");
  const gone = new Promise((resolve) => romeo.once("disconnect", resolve));
  romeo.socket.socket.destroy();
  await gone;
  await juliet.send(xml("message", { to: jid, type: "chat" }, xml("body", {}, "Art thou not Romeo?")));
  const got = romeo.message(), resumed = new Promise((resolve) => romeo.streamManagement.once("resumed", resolve));
  await romeo.reconnect.reconnect();
  await resumed;
  if ((await got).getChildText("body") !== "Art thou not Romeo?") throw new Error("another message");
  if (romeo.jid.toString() !== jid || romeo.streamManagement.id !== id) throw new Error("not the same session: " + romeo.jid);
  const back = juliet.message();
  await romeo.send(xml("message", { to: juliet.jid.toString(), type: "chat" }, xml("body", {}, "Neither")));
  if ((await back).getChildText("body") !== "Neither") throw new Error("another answer");
  await Promise.all([romeo.stop(), juliet.stop()]);
});

await test("what is published is there, and gone when it is retracted", async () => {
  const romeo = user("romeo", "xmpps://127.0.0.1:" + tls), NS = "http://jabber.org/protocol/pubsub";
  await romeo.start();
  const request = (type, ...children) => romeo.iqCaller.request(xml("iq", { type }, xml("pubsub", NS, ...children)));
  await request("set", xml("publish", { node: "urn:x" }, xml("item", { id: "1" }, xml("x", "urn:x", "a rose"))));
  const got = await request("get", xml("items", { node: "urn:x" }));
  const item = got.getChild("pubsub").getChild("items").getChild("item");
  if (item.attrs.id !== "1" || item.getChildText("x", "urn:x") !== "a rose") throw new Error("got " + got);
  await request("set", xml("retract", { node: "urn:x" }, xml("item", { id: "1" })));
  const left = await request("get", xml("items", { node: "urn:x" }));
  if (left.getChild("pubsub").getChild("items").getChild("item")) throw new Error("left " + left);
  await romeo.stop();
});

await test("a room: made, opened, entered by another, talked in, left", async () => {
  const romeo = user("romeo", "xmpp://127.0.0.1:" + starttls), juliet = user("juliet", "xmpp://127.0.0.1:" + starttls);
  await Promise.all([romeo.start(), juliet.start()]);
  const room = "verona@rooms.localhost";
  const seen = (xmpp, what) => new Promise((resolve) => xmpp.on("stanza", (s) => what(s) && resolve(s)));
  const codes = (s) => s.getChild("x", "http://jabber.org/protocol/muc#user")?.getChildren("status").map((c) => c.attrs.code) ?? [];
  const of = (nick, name) => (s) => s.is(name) && s.attrs.from === room + "/" + nick;
  const join = (xmpp, nick) => {
    const own = seen(xmpp, (s) => of(nick, "presence")(s) && codes(s).includes("110"));
    return xmpp.send(xml("presence", { to: room + "/" + nick }, xml("x", "http://jabber.org/protocol/muc"))).then(() => own);
  };
  if (!codes(await join(romeo, "Romeo")).includes("201")) throw new Error("the room was there already");
  await romeo.iqCaller.request(xml("iq", { type: "set", to: room }, xml("query", "http://jabber.org/protocol/muc#owner",
    xml("x", { xmlns: "jabber:x:data", type: "submit" }))));
  const comes = seen(romeo, of("Juliet", "presence")), there = seen(juliet, of("Romeo", "presence"));
  await join(juliet, "Juliet");
  await Promise.all([comes, there]);
  const said = [romeo, juliet].map((xmpp) => seen(xmpp, (s) => of("Juliet", "message")(s) && s.getChildText("body") === "O Romeo"));
  await juliet.send(xml("message", { to: room, type: "groupchat" }, xml("body", {}, "O Romeo")));
  const [one, two] = (await Promise.all(said)).map((s) => s.getChild("stanza-id", "urn:xmpp:sid:0").attrs.id);
  if (one !== two) throw new Error("ids " + one + " and " + two);
  const goes = seen(romeo, (s) => of("Juliet", "presence")(s) && s.attrs.type === "unavailable");
  await juliet.stop();
  await goes;
  await romeo.stop();
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

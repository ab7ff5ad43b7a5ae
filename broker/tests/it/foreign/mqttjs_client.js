// MQTT.js, as it is, with a broker: `mqttjs_client.js URL 4|5 CA`. Exits with 1 and says what is wrong.
"use strict";

const assert = require("assert");
const fs = require("fs");
const mqtt = require("mqtt");

const [url, version, ca] = process.argv.slice(2);
const is5 = version === "5";
const PATIENCE_MS = 20_000;

/** What happened, in its order, until somebody asks for it. */
class Queue {
  came = [];
  waiting = [];

  put(value) {
    const next = this.waiting.shift();
    next ? next(value) : this.came.push(value);
  }

  next(what) {
    if (this.came.length > 0) return this.came.shift();
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`no ${what} for ${PATIENCE_MS} ms`));
      const timer = setTimeout(late, PATIENCE_MS);
      this.waiting.push((value) => (clearTimeout(timer), resolve(value)));
    });
  }
}

/** MQTT.js's client, with a queue for each kind of thing that happens to it. */
class Client {
  constructor(clientId, options = {}) {
    this.mqtt = mqtt.connect(url, {
      clientId,
      protocolVersion: Number(version),
      username: "web",
      password: "web-secret",
      ca: fs.readFileSync(ca),
      reconnectPeriod: 20,
      ...options,
    });
    for (const kind of ["connect", "close", "error", "disconnect"]) {
      this[kind] = new Queue();
      this.mqtt.on(kind, (value) => this[kind].put(value));
    }
    this.messages = new Queue();
    this.mqtt.on("message", (topic, payload, packet) => this.messages.put(packet));
    this.answers = new Queue();
    this.mqtt.on("packetreceive", (packet) => packet.cmd === "puback" && this.answers.put(packet));
  }

  static async join(clientId, options) {
    const client = new Client(clientId, options);
    client.welcome = await client.connect.next("welcome");
    return client;
  }

  async want(topic, qos, options) {
    return (await this.mqtt.subscribeAsync(topic, { qos, ...options }))[0].qos;
  }

  message() {
    return this.messages.next("message");
  }

  /** Publishes at QoS 1; ends when the answer has come. */
  async say(topic, payload, options) {
    await this.mqtt.publishAsync(topic, payload, { qos: 1, ...options });
    return this.answers.next("PUBACK");
  }

  breakLine() {
    this.mqtt.stream.destroy();
  }

  leave() {
    return this.mqtt.endAsync();
  }
}

const kept = () => ({ clean: false, properties: is5 ? { sessionExpiryInterval: 600 } : undefined });
const text = (message) => `${message.topic} q${message.qos} r${Number(message.retain)} ${message.payload}`;

async function welcome() {
  const client = await Client.join("welcomed");
  assert.strictEqual(client.welcome.sessionPresent, false);
  if (is5) {
    assert.strictEqual(client.welcome.properties.maximumPacketSize, 1024 * 1024);
    assert.strictEqual(client.welcome.properties.maximumQoS, 1);
  }
  await client.leave();
  for (const wrong of [{ password: "wrong" }, { username: "nobody" }, { username: undefined, password: undefined }]) {
    const stranger = new Client("stranger", { ...wrong, reconnectPeriod: 0 });
    const refusal = await stranger.error.next("refusal");
    assert.ok((is5 ? [134, 135] : [4, 5]).includes(refusal.code), `${refusal.code}`);
    await stranger.leave();
  }
}

async function qualities() {
  const reader = await Client.join("reader");
  const writer = await Client.join("writer");
  assert.strictEqual(await reader.want("web/q/#", 1), 1);
  for (const qos of is5 ? [0, 1] : [0, 1, 2]) {
    await writer.mqtt.publishAsync(`web/q/${qos}`, "x", { qos });
    assert.strictEqual(text(await reader.message()), `web/q/${qos} q${Math.min(qos, 1)} r0 x`);
  }
  await reader.mqtt.unsubscribeAsync("web/q/#");
  await writer.say("web/q/1", "lost");
  await reader.want("web/end", 1);
  await writer.say("web/end", "x");
  assert.strictEqual((await reader.message()).topic, "web/end");
  await reader.leave();
  await writer.leave();
}

async function retained() {
  const writer = await Client.join("writer");
  await writer.say("web/r/1", "old", { retain: true });
  await writer.say("web/r/1", "new", { retain: true });
  await writer.say("web/r/2", "cleared", { retain: true });
  await writer.say("web/r/2", "", { retain: true });
  const late = await Client.join("late");
  await late.want("web/r/#", 1);
  assert.strictEqual(text(await late.message()), "web/r/1 q1 r1 new");
  await writer.say("web/r/3", "live", { retain: true });
  assert.strictEqual(text(await late.message()), "web/r/3 q1 r0 live");
  await late.leave();
  await writer.leave();
}

async function order() {
  const reader = await Client.join("reader");
  const writer = await Client.join("writer");
  await reader.want("web/order", 1);
  // Never more on the way than a broker keeps for a slow client.
  const [count, ahead] = [3000, 300];
  const answers = [];
  for (let n = 0; n < count + ahead; n++) {
    if (n < count) answers.push(writer.say("web/order", `${n}`));
    if (n >= ahead) assert.strictEqual(`${(await reader.message()).payload}`, `${n - ahead}`);
  }
  await Promise.all(answers);
  const large = Buffer.alloc(1_000_000, "0123456789a");
  await writer.say("web/order", large);
  assert.ok((await reader.message()).payload.equals(large));
  await reader.leave();
  await writer.leave();
}

async function reconnect() {
  const keeper = await Client.join("keeper", kept());
  assert.strictEqual(keeper.welcome.sessionPresent, false);
  await keeper.want("web/kept", 1);
  const writer = await Client.join("writer");
  keeper.breakLine();
  await keeper.close.next("close");
  await writer.say("web/kept", "meanwhile");
  // It comes back by itself, and its session is still there.
  assert.strictEqual((await keeper.connect.next("second welcome")).sessionPresent, true);
  assert.strictEqual(`${(await keeper.message()).payload}`, "meanwhile");
  await keeper.leave();
  for (const n of [1, 2, 3]) await writer.say("web/kept", `${n}`);
  const again = await Client.join("keeper", kept());
  assert.strictEqual(again.welcome.sessionPresent, true);
  for (const n of [1, 2, 3]) assert.strictEqual(`${(await again.message()).payload}`, `${n}`);
  await again.leave();
  // Without a session it subscribes again by itself.
  const forgetful = await Client.join("forgetful");
  await forgetful.want("web/again", 1);
  await writer.say("web/again", "still there", { retain: true });
  assert.strictEqual(text(await forgetful.message()), "web/again q1 r0 still there");
  forgetful.breakLine();
  assert.strictEqual((await forgetful.connect.next("second welcome")).sessionPresent, false);
  assert.strictEqual(text(await forgetful.message()), "web/again q1 r1 still there");
  await forgetful.leave();
  await writer.leave();
}

async function wills() {
  const watcher = await Client.join("watcher");
  await watcher.want("web/will/#", 1);
  const will = (topic) => ({
    reconnectPeriod: 0,
    will: { topic, payload: "gone", qos: 1, retain: true, properties: is5 ? { contentType: "x/gone" } : undefined },
  });
  await (await Client.join("polite", will("web/will/polite"))).leave();
  const mortal = await Client.join("mortal", will("web/will/mortal"));
  mortal.breakLine();
  const message = await watcher.message();
  assert.strictEqual(text(message), "web/will/mortal q1 r0 gone");
  if (is5) assert.strictEqual(message.properties.contentType, "x/gone");
  const late = await Client.join("late");
  await late.want("web/will/#", 1);
  assert.strictEqual(text(await late.message()), "web/will/mortal q1 r1 gone");
  await late.leave();
  await watcher.leave();
}

async function properties() {
  const reader = await Client.join("reader", { properties: { receiveMaximum: 5 } });
  const writer = await Client.join("writer");
  await reader.want("web/p/#", 1, { rap: true, properties: { subscriptionIdentifier: 7 } });
  const sent = {
    contentType: "text/plain",
    correlationData: Buffer.from("4711"),
    responseTopic: "web/answer",
    payloadFormatIndicator: true,
  };
  const users = { b: "2", a: ["1", "3"] };
  for (const topic of ["web/p/a/long/topic", "", ""]) {
    const properties = { ...sent, userProperties: users, messageExpiryInterval: 600, topicAlias: 1 };
    await writer.say(topic, "x", { retain: true, properties });
    const message = await reader.message();
    assert.strictEqual(text(message), "web/p/a/long/topic q1 r1 x");
    const { messageExpiryInterval, userProperties, ...got } = message.properties;
    assert.ok(messageExpiryInterval > 590 && messageExpiryInterval <= 600, messageExpiryInterval);
    assert.deepStrictEqual(got, { ...sent, subscriptionIdentifier: 7 });
    assert.deepStrictEqual({ ...userProperties }, users);
  }
  await reader.leave();
  await writer.leave();
}

async function reasons() {
  const client = await Client.join("curious");
  await assert.rejects(client.mqtt.publishAsync("elsewhere", "x", { qos: 1 }), { code: 135 });
  await assert.rejects(client.want("elsewhere", 1), /Not authorized/);
  const first = await Client.join("same", { reconnectPeriod: 0 });
  const second = await Client.join("same");
  assert.strictEqual((await first.disconnect.next("good-bye")).reasonCode, 142);
  await second.leave();
  await client.leave();
}

async function main() {
  const checks = [welcome, qualities, retained, order, reconnect, wills];
  for (const check of is5 ? [...checks, properties, reasons] : checks) {
    try {
      await check();
    } catch (err) {
      console.error(`mqttjs_client.js: ${check.name}: ${err.stack}`);
      process.exit(1);
    }
  }
}

main();

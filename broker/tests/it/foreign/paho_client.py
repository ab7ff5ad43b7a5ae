"""Eclipse Paho, as it is, with a broker: `paho_client.py PORT 3|5`. Exits with 1 and says what is wrong."""

import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT = int(sys.argv[1])
IS_5 = sys.argv[2] == "5"
PATIENCE_SECS = 20


class Client(mqtt.Client):
    """Paho's client, with a queue for each kind of thing that happens to it."""

    def __init__(self, client_id, clean=True, will=None):
        super().__init__(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if IS_5 else clean,
            protocol=mqtt.MQTTv5 if IS_5 else mqtt.MQTTv311,
        )
        self.came = {kind: queue.Queue() for kind in ["connect", "end", "granted", "published", "unsubscribed"]}
        self.messages = queue.Queue()
        self.on_connect = lambda _c, _d, flags, code, props: self.came["connect"].put((flags, code, props))
        self.on_disconnect = lambda _c, _d, _f, code, _p: self.came["end"].put(code)
        self.on_subscribe = lambda _c, _d, _m, codes, _p: self.came["granted"].put(codes)
        self.on_unsubscribe = lambda _c, _d, _m, codes, _p: self.came["unsubscribed"].put(codes)
        self.on_publish = lambda _c, _d, _m, code, _p: self.came["published"].put(code)
        self.on_message = lambda _c, _d, message: self.messages.put(message)
        if will:
            self.will_set(*will[:-1], properties=will[-1])
        self.clean = clean

    def join(self, **properties):
        """Connects; gives the flags, code and properties of the welcome."""
        if IS_5:
            if not self.clean:
                properties.setdefault("SessionExpiryInterval", 600)
            properties = make(PacketTypes.CONNECT, **properties)
            self.connect("127.0.0.1", PORT, clean_start=self.clean, properties=properties)
        else:
            self.connect("127.0.0.1", PORT)
        self.loop_start()
        return self.next("connect")

    def next(self, kind):
        return self.came[kind].get(timeout=PATIENCE_SECS)

    def want(self, topic, qos):
        if self.subscribe(topic, qos)[0] != mqtt.MQTT_ERR_SUCCESS:
            fail(f"cannot subscribe to {topic}")
        return self.next("granted")[0]

    def message(self):
        return self.messages.get(timeout=PATIENCE_SECS)

    def say(self, topic, payload, qos=1, **more):
        info = self.publish(topic, payload, qos, **more)
        info.wait_for_publish(PATIENCE_SECS)
        return self.next("published")

    def break_line(self):
        self.socket().shutdown(socket.SHUT_RDWR)

    def leave(self):
        self.disconnect()
        self.next("end")
        self.loop_stop()


def make(packet, **values):
    properties = Properties(packet)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def fail(what):
    sys.exit(f"paho_client.py: {what}")


def expect(what, got, wanted):
    if got != wanted:
        fail(f"{what}: got {got!r}, wanted {wanted!r}")


def welcome():
    client = Client("welcomed")
    flags, code, properties = client.join()
    expect("welcome", (flags.session_present, str(code)), (False, "Success"))
    if IS_5:
        expect("maximum QoS", getattr(properties, "MaximumQoS", 2) in (1, 2), True)
        expect("maximum packet size", properties.MaximumPacketSize, 1024 * 1024)
    client.leave()


def qualities():
    reader, writer = Client("reader"), Client("writer")
    reader.join(), writer.join()
    expect("granted", reader.want("q/#", 1).value, 1)
    for qos in [0, 1] if IS_5 else [0, 1, 2]:
        writer.say(f"q/{qos}", "x", qos)
        message = reader.message()
        expect("message", (message.topic, message.payload, message.qos), (f"q/{qos}", b"x", min(qos, 1)))
    reader.unsubscribe("q/#")
    reader.next("unsubscribed")
    writer.say("q/1", "lost")
    reader.want("end", 1)
    writer.say("end", "x")
    expect("topic after unsubscribing", reader.message().topic, "end")
    reader.leave(), writer.leave()


def order():
    reader, writer = Client("reader"), Client("writer")
    reader.join(), writer.join()
    reader.want("order", 1)
    # Never more on the way than a broker keeps for a slow client.
    ahead = 500
    for n in range(10_000 + ahead):
        if n < 10_000:
            writer.publish("order", str(n), 1)
        if n >= ahead:
            expect("place in the order", int(reader.message().payload), n - ahead)
    large = bytes(n % 251 for n in range(1_000_000))
    writer.publish("order", large, 1)
    expect("large payload", reader.message().payload == large, True)
    reader.leave(), writer.leave()


def resume():
    keeper = Client("keeper", clean=False)
    expect("session present at first", keeper.join()[0].session_present, False)
    keeper.want("kept", 1)
    keeper.leave()
    writer = Client("writer")
    writer.join()
    for n in range(5):
        writer.say("kept", str(n))
    expect("session present later", keeper.join()[0].session_present, True)
    for n in range(5):
        expect("what came meanwhile", int(keeper.message().payload), n)
    # A broken line is mended by the client itself, and the session goes on.
    keeper.break_line()
    keeper.next("end")
    writer.say("kept", "meanwhile")
    expect("session present after the break", keeper.next("connect")[0].session_present, True)
    message = keeper.message()
    while message.dup:
        # Its acknowledgement was lost with the line.
        message = keeper.message()
    expect("what came in the break", message.payload, b"meanwhile")
    keeper.leave(), writer.leave()


def wills():
    watcher = Client("watcher")
    watcher.join()
    watcher.want("will/#", 1)
    properties = make(PacketTypes.WILLMESSAGE, ContentType="x/gone", WillDelayInterval=1) if IS_5 else None
    polite = Client("polite", will=("will/polite", "gone", 1, False, properties))
    polite.join(), polite.leave()
    mortal = Client("mortal", will=("will/mortal", "gone", 1, True, properties))
    mortal.join()
    mortal.loop_stop()
    mortal.break_line()
    message = watcher.message()
    expect("will", (message.topic, message.payload), ("will/mortal", b"gone"))
    if IS_5:
        expect("content type of the will", message.properties.ContentType, "x/gone")
    watcher.want("will/mortal", 1)
    expect("retained will", watcher.message().retain, True)
    watcher.leave()


def taken_over():
    first, second = Client("same"), Client("same")
    first.join()
    second.join()
    reason = first.next("end")
    # It would come back at once.
    first.loop_stop()
    if IS_5:
        expect("reason", str(reason), "Session taken over")
    second.leave()


def properties():
    reader, writer = Client("reader"), Client("writer")
    reader.join(ReceiveMaximum=5)
    writer.join()
    reader.subscribe("p/#", options=SubscribeOptions(1, retainAsPublished=True),
                     properties=make(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=7))
    reader.next("granted")
    sent = make(
        PacketTypes.PUBLISH, ContentType="text/plain", CorrelationData=b"4711", ResponseTopic="answer/here",
        PayloadFormatIndicator=1, MessageExpiryInterval=600, TopicAlias=1, UserProperty=[("b", "2"), ("a", "1")],
    )
    for topic in ["p/a/long/topic", "", ""]:
        expect("answer", str(writer.say(topic, "x", retain=True, properties=sent)), "Success")
        message = reader.message()
        got = message.properties
        expect("topic", (message.topic, message.retain), ("p/a/long/topic", True))
        expect("user properties", got.UserProperty, [("b", "2"), ("a", "1")])
        expect("content type", (got.ContentType, got.CorrelationData), ("text/plain", b"4711"))
        expect("response topic", (got.ResponseTopic, got.PayloadFormatIndicator), ("answer/here", 1))
        expect("subscription", got.SubscriptionIdentifier, [7])
        expect("expiry", 590 <= got.MessageExpiryInterval <= 600, True)
    reader.leave(), writer.leave()


def reasons():
    client = Client("curious")
    client.join()
    expect("publish that is denied", str(client.say("$SYS/x", "x")), "Not authorized")
    expect("shared filter", str(client.want("$share/a/b", 1)), "Shared subscription not supported")
    client.unsubscribe("never/there")
    expect("unknown filter", str(client.next("unsubscribed")[0]), "No subscription found")
    client.leave()


CHECKS = [welcome, qualities, order, resume, wills, taken_over]
for check in CHECKS + [properties, reasons] if IS_5 else CHECKS:
    try:
        check()
    except queue.Empty:
        fail(f"{check.__name__}: nothing came for {PATIENCE_SECS} s")

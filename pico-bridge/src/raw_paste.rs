//! MicroPython's raw REPL with raw paste mode, as bytes in and bytes out: no port, no clock.
//!
//! The device may answer an acknowledgement and the output that follows in one read, or each byte in a read of its own; so
//! every byte is looked at by itself. What the two sides say (micropython `shared/runtime/pyexec.c`):
//!
//! ```text
//! host                  device
//! \r ^C ^C \r ^A        … raw REPL; CTRL-B to exit\r\n>
//! ^E A ^A               R 01 and the window as u16, little-endian; R 00 or anything else: cannot
//! code, a window ahead  01 for one window more; 04 gives up, and wants a 04
//! ^D                    04, then stdout 04 stderr 04 >
//! ```

use std::collections::VecDeque;

/// Ends each answer of the device, and what is pasted.
const END: u8 = 0x04;
/// Ends the program that runs, whatever the prompt; then the raw REPL.
const ENTER: &[u8] = b"\r\x03\x03\r\x01";
/// What the raw REPL says of itself.
const BANNER: &[u8] = b"raw REPL; CTRL-B to exit\r\n>";
/// Asks for raw paste mode.
const PASTE: &[u8] = b"\x05A\x01";
/// Most bytes of a traceback that are kept: its end is what says something.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// What the device has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The raw REPL waits for code.
    Ready,
    /// The code runs: what is given from now on is read by it.
    Running,
    /// The running code printed this.
    Printed(Vec<u8>),
    /// The code has ended, with this traceback or none.
    Ended(Vec<u8>),
    /// The device takes no more of the code: it has no memory for it.
    GaveUp,
    /// This MicroPython knows no raw paste mode, or what answers is none.
    Unsupported,
}

/// Where the conversation is.
#[derive(Debug)]
enum State {
    /// Nothing is expected: what comes is a running program's, or a person's.
    Away,
    /// The banner is waited for; so many bytes of it came.
    Entering(usize),
    Ready,
    /// Raw paste mode was asked for.
    Asked,
    /// The answer `R` came.
    Answered,
    /// The window is coming: its low byte, once that is there.
    Window(Option<u8>),
    Pasting(Paste),
    /// All was sent; the acknowledgement is waited for.
    Sent,
    Printing,
    Failing(Vec<u8>),
    /// Both answers came, the prompt is waited for.
    Prompt(Vec<u8>),
}

/// Code on its way.
#[derive(Debug)]
struct Paste {
    code: Vec<u8>,
    at: usize,
    window: usize,
    credit: usize,
}

/// One side of the conversation: ours.
#[derive(Debug)]
pub(crate) struct RawPaste {
    state: State,
    code: Vec<u8>,
    send: Vec<u8>,
    events: VecDeque<Event>,
}

impl RawPaste {
    /// A conversation that has not begun.
    pub(crate) fn new() -> Self {
        Self { state: State::Away, code: Vec::new(), send: Vec::new(), events: VecDeque::new() }
    }

    /// Interrupts what runs and asks for the raw REPL; may be said again when no answer comes.
    pub(crate) fn enter(&mut self) {
        self.state = State::Entering(0);
        self.send.extend_from_slice(ENTER);
    }

    /// Has the code run. Only at the raw REPL.
    pub(crate) fn run(&mut self, code: &[u8]) {
        self.code = code.to_vec();
        self.state = State::Asked;
        self.send.extend_from_slice(PASTE);
    }

    /// Bytes for the code that runs.
    pub(crate) fn give(&mut self, bytes: &[u8]) {
        self.send.extend_from_slice(bytes);
    }

    /// Bytes that came from the device.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let state = std::mem::replace(&mut self.state, State::Away);
            self.state = self.take(state, byte);
        }
    }

    /// Bytes that are to be written to the device now.
    pub(crate) fn poll_send(&mut self) -> Option<Vec<u8>> {
        (!self.send.is_empty()).then(|| std::mem::take(&mut self.send))
    }

    /// What the device has said, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn take(&mut self, state: State, byte: u8) -> State {
        match state {
            State::Entering(seen) => self.enter_with(seen, byte),
            State::Asked if byte == b'R' => State::Answered,
            State::Answered if byte == 1 => State::Window(None),
            State::Asked | State::Answered => {
                self.events.push_back(Event::Unsupported);
                State::Away
            }
            State::Window(None) => State::Window(Some(byte)),
            State::Window(Some(low)) => {
                let window = usize::from(u16::from_le_bytes([low, byte]));
                let code = std::mem::take(&mut self.code);
                self.push(Paste { code, at: 0, window, credit: window })
            }
            State::Pasting(paste) => self.paste_with(paste, byte),
            State::Sent if byte == END => {
                self.events.push_back(Event::Running);
                State::Printing
            }
            State::Printing if byte == END => State::Failing(Vec::new()),
            State::Printing => {
                self.print(byte);
                State::Printing
            }
            State::Failing(error) if byte == END => State::Prompt(error),
            State::Failing(mut error) => {
                if error.len() >= MAX_ERROR_BYTES {
                    error.drain(..MAX_ERROR_BYTES / 2);
                }
                error.push(byte);
                State::Failing(error)
            }
            State::Prompt(error) if byte == b'>' => {
                self.events.push_back(Event::Ended(error));
                State::Ready
            }
            // A window may be given that is no longer wanted; at a prompt nothing says anything that counts.
            waiting @ (State::Sent | State::Prompt(_) | State::Ready | State::Away) => waiting,
        }
    }

    fn enter_with(&mut self, seen: usize, byte: u8) -> State {
        // No part of the banner is its own beginning but `r`, so that this finds it wherever it is.
        let seen = match seen {
            seen if byte == BANNER[seen] => seen + 1,
            _ => usize::from(byte == BANNER[0]),
        };
        if seen < BANNER.len() {
            return State::Entering(seen);
        }
        self.events.push_back(Event::Ready);
        State::Ready
    }

    fn paste_with(&mut self, mut paste: Paste, byte: u8) -> State {
        match byte {
            1 => paste.credit += paste.window,
            END => {
                self.send.push(END);
                self.events.push_back(Event::GaveUp);
                return State::Printing;
            }
            _ => {}
        }
        self.push(paste)
    }

    /// Sends as much as the device has room for.
    fn push(&mut self, mut paste: Paste) -> State {
        let end = paste.code.len().min(paste.at + paste.credit);
        self.send.extend_from_slice(&paste.code[paste.at..end]);
        paste.credit -= end - paste.at;
        paste.at = end;
        if paste.at < paste.code.len() {
            return State::Pasting(paste);
        }
        self.send.push(END);
        State::Sent
    }

    fn print(&mut self, byte: u8) {
        match self.events.back_mut() {
            Some(Event::Printed(bytes)) => bytes.push(byte),
            _ => self.events.push_back(Event::Printed(vec![byte])),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn code_is_pasted_by_the_window_and_its_output_comes_back() {
        let (mut device, mut repl) = (Device::new(4), RawPaste::new());
        repl.enter();
        assert_eq!(talk(&mut repl, &mut device, usize::MAX), [Event::Ready]);
        repl.run(b"print('hello')");
        let said = talk(&mut repl, &mut device, usize::MAX);
        let printed = Event::Printed(b"ran 14".to_vec());
        assert_eq!(said, [Event::Running, printed, Event::Ended(Vec::new())]);
        assert_eq!(device.ran, [b"print('hello')".to_vec()]);
    }

    #[test]
    fn a_traceback_is_told_from_output_and_an_old_firmware_is_said() {
        let (mut device, mut repl) = (Device::new(128), RawPaste::new());
        repl.enter();
        talk(&mut repl, &mut device, usize::MAX);
        repl.run(b"raise");
        let said = talk(&mut repl, &mut device, usize::MAX);
        assert_eq!(said, [Event::Running, Event::Ended(b"Traceback".to_vec())]);
        let mut repl = RawPaste::new();
        repl.run(b"1");
        repl.receive(b"R\x00");
        assert_eq!(repl.poll_event(), Some(Event::Unsupported));
    }

    #[test]
    fn a_device_that_gives_up_is_answered() {
        let mut repl = RawPaste::new();
        repl.run(&[b'x'; 300]);
        repl.receive(b"R\x01\x80\x00");
        repl.poll_send();
        repl.receive(b"\x04\x04MemoryError\x04>");
        assert_eq!(repl.poll_send(), Some(vec![END]));
        assert_eq!(repl.poll_event(), Some(Event::GaveUp));
        assert_eq!(repl.poll_event(), Some(Event::Ended(b"MemoryError".to_vec())));
    }

    proptest! {
        #[test]
        fn any_code_comes_through_any_window_in_pieces_of_any_size(
            code in proptest::collection::vec(any::<u8>().prop_filter("ends the paste", |b| *b != END), 0..2_000),
            window in 1..300_u16,
            piece in 1..40_usize,
            noise in "[ -~\r\n]{0,60}",
        ) {
            let (mut device, mut repl) = (Device::new(window), RawPaste::new());
            device.say.extend(noise.bytes());
            repl.enter();
            prop_assert_eq!(talk(&mut repl, &mut device, piece).pop(), Some(Event::Ready));
            repl.run(&code);
            let said = talk(&mut repl, &mut device, piece);
            prop_assert!(matches!(said.last(), Some(Event::Ended(error)) if error.is_empty()), "{:?}", said);
            prop_assert_eq!(&device.ran, &[code]);
            prop_assert!(!device.is_overrun);
        }

        #[test]
        fn no_bytes_of_a_device_are_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..500), enters: bool) {
            let mut repl = RawPaste::new();
            if enters { repl.enter() } else { repl.run(b"print(1)") }
            repl.receive(&bytes);
            while repl.poll_event().is_some() {}
        }
    }

    /// What the other side of the conversation does.
    struct Device {
        window: u16,
        credit: usize,
        is_overrun: bool,
        pasting: Option<Vec<u8>>,
        heard: Vec<u8>,
        say: VecDeque<u8>,
        ran: Vec<Vec<u8>>,
    }

    impl Device {
        fn new(window: u16) -> Self {
            Self {
                window,
                credit: 0,
                is_overrun: false,
                pasting: None,
                heard: Vec::new(),
                say: VecDeque::new(),
                ran: Vec::new(),
            }
        }

        fn hear(&mut self, byte: u8) {
            let Some(code) = &mut self.pasting else {
                self.heard.push(byte);
                if self.heard.ends_with(b"\r\x01") {
                    self.say.extend(BANNER);
                } else if self.heard.ends_with(PASTE) {
                    // The window at once, and as much again: the device has two buffers.
                    self.say.extend(b"R\x01");
                    self.say.extend(self.window.to_le_bytes());
                    self.say.push_back(1);
                    self.credit = 2 * usize::from(self.window);
                    self.pasting = Some(Vec::new());
                }
                return;
            };
            if byte == END {
                let code = self.pasting.take().unwrap();
                let (out, error) = match code.as_slice() {
                    b"raise" => (String::new(), "Traceback"),
                    code => (format!("ran {}", code.len()), ""),
                };
                self.say.extend(format!("\x04{out}\x04{error}\x04>").bytes());
                return self.ran.push(code);
            }
            self.is_overrun |= self.credit == 0;
            self.credit = self.credit.saturating_sub(1);
            code.push(byte);
            if code.len() % usize::from(self.window) == 0 {
                self.credit += usize::from(self.window);
                self.say.push_back(1);
            }
        }
    }

    /// Carries bytes to and fro until both are silent, so many at a time to our side.
    fn talk(repl: &mut RawPaste, device: &mut Device, piece: usize) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let sent = repl.poll_send();
            sent.iter().flatten().for_each(|byte| device.hear(*byte));
            let said: Vec<u8> = device.say.drain(..piece.min(device.say.len())).collect();
            repl.receive(&said);
            while let Some(event) = repl.poll_event() {
                match (events.last_mut(), event) {
                    (Some(Event::Printed(before)), Event::Printed(more)) => before.extend(more),
                    (_, event) => events.push(event),
                }
            }
            if sent.is_none() && said.is_empty() {
                return events;
            }
        }
    }
}
